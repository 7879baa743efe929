"""What ``lianzhen-edge status`` prints: for people at a terminal, who may have no console."""

from collections.abc import Iterator

from lianzhen_runtime.web.look import size

from .status import BoxStatus
from .sync import Concern, LaneState

_HEAD = ("lane", "waiting", "bytes", "oldest", "bytes/s", "again", "rejected", "last commit")

_SENTENCES = {
    "not-enrolled": "not enrolled ({what}): claim it, or see what the hub said above",
    "refused": "the hub refuses this box ({what}): call the hub's admin",
    "stalled": "{what} waits for {age}: look at the line; do not switch this box off for good",
    "disk-full": "the disk is full, new data are refused: make room on it",
    "journal-full": "the journal's share is full, records are refused: let the hub take what waits",
    "images-full": "the images' share is full, images are refused: let the hub take what waits",
    "hub-untrusted": (
        "the hub shows a certificate of an authority that this box does not know: is it the right"
        " hub? If its admin changed the authority, type a new claim: lianzhen-edge claim"
    ),
    "certificate-ends": "the certificate was not renewed: let this box reach the hub's HTTPS port",
}


def lines(found: BoxStatus) -> Iterator[str]:
    """State, line, lanes, what only this disk holds, and what to look at."""
    yield f"{found.state}  node {found.node or '-'}  version {found.version}"
    if found.sentence:
        yield found.sentence
    if found.browser_fingerprint:
        yield f"  authority for browsers, SHA-256 {found.browser_fingerprint}"
    for link in found.links:
        code = f" ({link.code}: {link.detail})" if link.code else ""
        since = f" for {_age(found.now_ms - link.since_ms)}" if link.since_ms else ""
        yield f"  {link.group:8} {link.state}{since}{code}"
        if link.set_back_records:
            ago = _age(found.now_ms - link.set_back_ms)
            yield (
                f"  the hub came back at an earlier state {ago} ago: {link.set_back_records}"
                " records that it had before are sent again"
            )
    for share in found.storage.shares if found.storage else ():
        bound = f" of {size(share.quota)}" if share.quota else ""
        yield f"  {share.name:8} {size(share.used)}{bound}{', full' if share.full else ''}"
    used = [lane for lane in found.lanes if lane.used]
    if used:
        yield ""
        yield from _table([_HEAD, *(_row(lane, found.now_ms) for lane in used)])
        yield ""
        yield _alone(found.lanes)
    if found.held:
        yield f"{found.held} records from the hub wait for a later release"
    for concern in found.concerns:
        yield f"LOOK: {_sentence(concern, found.now_ms)}"


def _alone(lanes: list[LaneState]) -> str:
    waiting = [lane for lane in lanes if lane.waiting]
    if not waiting:
        return "the hub has confirmed all that this box holds"
    total = size(sum(lane.waiting_bytes for lane in waiting))
    parts = ", ".join(f"{lane.waiting} in {lane.lane}" for lane in waiting)
    return f"on this disk alone, and nowhere else: {total} ({parts})"


def _row(lane: LaneState, now_ms: int) -> tuple[str, ...]:
    oldest, last = lane.oldest_ms, lane.committed_ms
    return (
        lane.lane,
        str(lane.waiting),
        size(lane.waiting_bytes),
        "-" if oldest is None else _age(now_ms - oldest),
        size(lane.bytes_per_s),
        str(lane.again),
        str(lane.rejected),
        "never" if last is None else f"{_age(now_ms - last)} ago",
    )


def _table(rows: list[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *others in rows:
        cells = (cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))
        yield f"  {first:<{widths[0]}}  {'  '.join(cells)}"


def _age(ms: int) -> str:
    seconds = max(0, ms) // 1000
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"


def _sentence(concern: Concern, now_ms: int) -> str:
    age = _age(now_ms - concern.since_ms) if concern.since_ms else "an unknown time"
    return _SENTENCES[concern.code].format(what=concern.what, age=age)
