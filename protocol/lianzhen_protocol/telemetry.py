"""What a box tells of itself, so that the hub's admins see it without calling the clinic.

It rides in the lane that goes last, and only while something waits; no report is promised.
"""

from typing import Annotated, Final

import msgspec

from .records import Body, Milliseconds

STREAM: Final = "telemetry.lanes"
IMAGES: Final = "images"
"""Originals on their way by HTTPS: no lane of the protocol's, but reported beside them."""

MAX_LANES: Final = 16
Count = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
LaneWord = Annotated[str, msgspec.Meta(pattern="^[a-z]{1,16}$")]


class LaneReport(msgspec.Struct, frozen=True, array_like=True):
    """One lane: what only the box's disk holds, since when, and how it goes."""

    lane: LaneWord
    waiting: Count
    waiting_bytes: Count
    oldest_ms: Milliseconds | None
    bytes_per_s: Count
    again: Count
    rejected: Count


class LanesReported(Body, frozen=True, kw_only=True):
    """Every lane that is in use, of one moment. The latest report of a box counts."""

    lanes: Annotated[tuple[LaneReport, ...], msgspec.Meta(max_length=MAX_LANES)]


KINDS: Final[dict[str, dict[int, type[Body]]]] = {"telemetry.lanes": {1: LanesReported}}
