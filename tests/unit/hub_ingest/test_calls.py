"""Who is asked for a hello, and when."""

import itertools
import random

from lianzhen_hub.ingest.calls import CAP_SECONDS, PER_SECOND, Calls
from lianzhen_protocol.identity import NodeId

BOX = NodeId("n0123456789ab")


def nodes(count: int) -> list[NodeId]:
    return [NodeId(f"n{number:012d}") for number in range(count)]


def test_a_fleet_is_called_spread_out_and_each_box_once() -> None:
    spread = random.Random(1)
    calls = Calls(spread.random)
    calls.want(nodes(1000), 0.0)
    seconds = [calls.due(float(second)) for second in range(int(1000 / PER_SECOND) + 1)]
    assert len(seconds[1]) < 1.5 * PER_SECOND
    assert {box for second in seconds for box in second} == set(nodes(1000))


def test_a_box_that_was_heard_is_called_no_more() -> None:
    calls = Calls(lambda: 0.0)
    calls.want([BOX], 0.0)
    calls.heard(BOX)
    assert calls.due(1e9) == []


def test_a_box_that_stays_away_is_called_for_ever_at_the_cap() -> None:
    calls = Calls(lambda: 0.999)
    calls.want([BOX], 0.0)
    times = [float(second) for second in range(100_000) if calls.due(float(second))]
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert gaps[0] <= 5
    assert max(gaps) <= CAP_SECONDS
    assert gaps[-1] > CAP_SECONDS / 2


def test_wanting_a_box_twice_calls_it_once() -> None:
    calls = Calls(lambda: 0.0)
    calls.want([BOX], 0.0)
    calls.want([BOX], 0.0)
    assert calls.due(0.0) == [BOX]
