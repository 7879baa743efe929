"""How far what this box holds has come, lane by lane, and what of it a person should look at.

Every figure is kept where it changes, so that asking costs the same with a million records.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from lianzhen_protocol.imaging import SENT, STORED, Instance
from lianzhen_protocol.lanes import Lane, lane_of
from lianzhen_protocol.telemetry import IMAGES
from lianzhen_runtime.flow import Flow

from .dicom.waiting import TALLY
from .journal.journal import Journal
from .journal.states import StreamState
from .storage import CAUSES
from .uplink.link import LinkStatus

STALLED_SECONDS: Final = 900.0
"""A lane whose oldest record waits for longer does not move."""


class LaneState(msgspec.Struct, frozen=True, kw_only=True):
    """One lane. ``waiting``: what the hub has not committed, so that only this disk holds it.

    ``sent_*`` count what went out since the program's start, ``again`` of these for a second
    time. ``rejected``: what the hub keeps and could not apply, or this disk lost.
    """

    lane: str
    waiting: int = 0
    waiting_bytes: int = 0
    oldest_ms: int | None = None
    bytes_per_s: float = 0.0
    sent: int = 0
    sent_bytes: int = 0
    again: int = 0
    rejected: int = 0
    committed_ms: int | None = None
    used: bool = False
    """Whether anything ever was in it."""


class Concern(msgspec.Struct, frozen=True, kw_only=True):
    """Why a person should look at a box: a stable code, what it is about, since when."""

    code: str
    what: str
    since_ms: int | None = None


def record_lanes(streams: Iterable[StreamState], flows: dict[Lane, Flow]) -> list[LaneState]:
    """Every lane of records, the most urgent first, also those that were never used."""
    by_lane: dict[Lane, list[StreamState]] = {lane: [] for lane in Lane}
    for stream in streams:
        by_lane[lane_of(stream.stream)].append(stream)
    return [_lane(lane, found, flows.get(lane, Flow())) for lane, found in by_lane.items()]


def _lane(lane: Lane, streams: list[StreamState], flow: Flow) -> LaneState:
    return LaneState(
        lane=lane.word,
        waiting=sum(each.last - each.committed for each in streams),
        waiting_bytes=sum(each.waiting_bytes for each in streams),
        oldest_ms=min((s.oldest_ms for s in streams if s.oldest_ms is not None), default=None),
        bytes_per_s=flow.rate,
        sent=flow.items,
        sent_bytes=flow.size,
        again=flow.again,
        rejected=sum(each.rejected for each in streams),
        committed_ms=max(
            (s.committed_ms for s in streams if s.committed_ms is not None), default=None
        ),
        used=bool(streams),
    )


def images_lane(journal: Journal, flow: Flow) -> LaneState:
    """Images: theirs is the hub's receipt, after it has all bytes and their hash is right."""
    tally = journal.tally(TALLY)
    oldest = [
        image.stored_ms
        for state in (STORED, SENT)
        for image in journal.sheets.find(Instance, state=state, limit=1)
    ]
    return LaneState(
        lane=IMAGES,
        waiting=tally.items,
        waiting_bytes=tally.size,
        oldest_ms=min(oldest, default=None),
        bytes_per_s=flow.rate,
        sent=flow.items,
        sent_bytes=flow.size,
        again=flow.again,
        committed_ms=tally.moved_ms,
        used=tally.items > 0 or tally.moved_ms is not None,
    )


def concerns(
    state: str,
    now_ms: int,
    certificate_ends_ms: int | None,
    links: Iterable[LinkStatus],
    lanes: Iterable[LaneState],
    full: Iterable[str] = (),
    stalled_s: float = STALLED_SECONDS,
) -> list[Concern]:
    """What a person should look at; empty for a box that is well.

    A line that is down is none by itself, as a clinic's line is often down: what waits for too
    long is. Neither is a rejected record, which waits for a person and never goes away by itself.
    """
    found, links = [Concern(code=code, what="") for code in full], list(links)
    if state != "enrolled":
        found.append(Concern(code="not-enrolled", what=state))
    found += [
        Concern(code="refused", what=link.code or "", since_ms=link.since_ms)
        for link in links
        if link.state == "refused"
    ]
    found += [
        Concern(code="stalled", what=lane.lane, since_ms=lane.oldest_ms)
        for lane in lanes
        if lane.oldest_ms is not None and now_ms - lane.oldest_ms > stalled_s * 1000
    ]
    untrusted = [link.since_ms for link in links if link.code == UNTRUSTED]
    found += [Concern(code="hub-untrusted", what="", since_ms=min(untrusted))] if untrusted else []
    if certificate_ends_ms is not None and certificate_ends_ms - now_ms < _RENEWAL_LATE_MS:
        found.append(Concern(code="certificate-ends", what="", since_ms=certificate_ends_ms))
    return found


CONCERNS: Final = (
    "not-enrolled",
    "refused",
    "stalled",
    "hub-untrusted",
    "certificate-ends",
    *CAUSES,
)

UNTRUSTED: Final = "peer-untrusted"
"""Code of a line whose other end shows a certificate of no authority of ours."""

_RENEWAL_LATE_MS: Final = 3 * 24 * 3600 * 1000
"""Certificates are renewed three weeks before; this late, something keeps them from it."""
