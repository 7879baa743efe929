"""When a box reports its lanes: while something waits, once when it is well, and never in heaps."""

import msgspec
import pytest

from lianzhen_edge import reporting, sync
from lianzhen_edge.journal.states import StreamState
from lianzhen_edge.status import BoxStatus
from lianzhen_edge.sync import LaneState
from lianzhen_protocol.telemetry import STREAM, LanesReported

NOTHING = LanesReported(lanes=())


def status(*lanes: LaneState, untold: int = 0) -> BoxStatus:
    own = StreamState(stream=STREAM, last=5, committed=5 - untold, safe=0, oldest_ms=None)
    return BoxStatus(
        state="enrolled", sentence="", version="1", node=None, clinic=None, now_ms=1,
        clock_offset_ms=0, certificate_ends_ms=None, links=[], streams=[own], held=0,
        lanes=list(lanes), concerns=[], browser_fingerprint="",
        storage=None,
    )  # fmt: skip


WELL = LaneState(lane="record", used=True)
WAITS = msgspec.structs.replace(WELL, waiting=3, waiting_bytes=300, oldest_ms=7)


def test_only_lanes_in_use_are_told_and_not_the_reports_own() -> None:
    telemetry = msgspec.structs.replace(WAITS, lane="telemetry")
    unused = LaneState(lane="alarm")
    found = reporting.report([unused, WAITS, telemetry])
    assert [(lane.lane, lane.waiting, lane.oldest_ms) for lane in found.lanes] == [("record", 3, 7)]
    everything = [msgspec.structs.replace(WAITS, lane=lane.lane) for lane in _all_lanes()]
    assert msgspec.msgpack.decode(
        msgspec.msgpack.encode(reporting.report(everything)), type=LanesReported
    ) == reporting.report(everything)


def _all_lanes() -> list[LaneState]:
    return [*sync.record_lanes([], {}), LaneState(lane="images")]


@pytest.mark.parametrize(
    ("found", "last", "expected"),
    [
        (status(WAITS), NOTHING, True),
        (status(WELL), NOTHING, True),  # once: so that the hub knows that nothing waits
        (status(WELL), reporting.report([WELL]), False),
        (status(WAITS), reporting.report([WAITS]), False),  # no news
        (status(WELL), reporting.report([WAITS]), True),  # it is over
        (status(WAITS, untold=1), NOTHING, False),  # the last one waits itself
    ],
)
def test_when_a_report_is_due(found: BoxStatus, last: LanesReported, expected: bool) -> None:
    assert reporting.due(found, last) is expected
