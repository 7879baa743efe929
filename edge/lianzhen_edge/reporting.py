"""Tells the hub what waits here, lane by lane, while something does.

A box that is well says so once and is silent. Never more than one report waits itself, so a week
without a line leaves one.
"""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from lianzhen_protocol import kinds
from lianzhen_protocol.lanes import lane_of
from lianzhen_protocol.telemetry import STREAM, LaneReport, LanesReported
from lianzhen_runtime.ids import new_id

from .status import BoxStatus
from .sync import LaneState

if TYPE_CHECKING:
    from .journal.journal import Journal

INTERVAL_S: Final = 60.0
_ROUND: Final = 1_000
"""Bytes a second are told to this: a rate that wavers is no news."""


async def run(journal: "Journal", status: Callable[[], BoxStatus]) -> None:
    """Report for as long as the box runs."""
    last = LanesReported(lanes=())
    while True:
        found = status()
        if due(found, last):
            last = report(found.lanes)
            identity = new_id(found.now_ms)
            await journal.put(STREAM, [kinds.encode(last, identity, found.now_ms)])
        await asyncio.sleep(INTERVAL_S)


def report(lanes: list[LaneState]) -> LanesReported:
    """The lanes in use; of the report's own one nothing is told, as it would never end."""
    return LanesReported(
        lanes=tuple(
            LaneReport(
                lane.lane,
                lane.waiting,
                lane.waiting_bytes,
                lane.oldest_ms,
                int(lane.bytes_per_s) // _ROUND * _ROUND,
                lane.again,
                lane.rejected,
            )
            for lane in lanes
            if lane.used and lane.lane != lane_of(STREAM).word
        )
    )


def due(found: BoxStatus, last: LanesReported) -> bool:
    """Whether there is news, and the last report is not itself waiting for a line."""
    own = next((each for each in found.streams if each.stream == STREAM), None)
    if own is not None and own.committed < own.last:
        return False
    fresh = report(found.lanes)
    waits = any(lane.waiting for lane in fresh.lanes)
    waited = any(lane.waiting for lane in last.lanes)
    return fresh != last and (waits or waited or not last.lanes)
