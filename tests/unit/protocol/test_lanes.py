"""Lanes: the most urgent first, and nobody forgotten."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lianzhen_protocol import lanes
from lianzhen_protocol.errors import TopicError
from lianzhen_protocol.lanes import MIN_SHARE, Group, Lane, LaneScheduler

QUANTUM = 4096
waiting_sets = st.sets(st.sampled_from(Lane), min_size=1)


def test_the_shares_leave_something_to_priority() -> None:
    assert set(MIN_SHARE) == set(Lane)
    assert all(share > 0 for share in MIN_SHARE.values())
    assert sum(MIN_SHARE.values()) < 1


def test_each_lane_has_a_word_and_a_session() -> None:
    words = ("alarm", "audio", "consultation", "record", "vitals", "video", "preview", "study",
             "telemetry")  # fmt: skip
    assert [lanes.lane_of(f"{word}.x-1") for word in words] == list(Lane)
    assert [lanes.lane_of(word).group for word in words] == [Group.URGENT] * 3 + [Group.BULK] * 6


@pytest.mark.parametrize("stream", ["", "alarms", "x.alarm", ".alarm", "other.1"])
def test_a_stream_without_a_lane_is_refused(stream: str) -> None:
    with pytest.raises(TopicError):
        lanes.lane_of(stream)


@given(waiting_sets)
def test_the_most_urgent_goes_first_while_nobody_is_owed(waiting: set[Lane]) -> None:
    assert LaneScheduler(QUANTUM).choose(waiting) is min(waiting)


@given(waiting_sets, st.integers(200, 100_000))
def test_an_alarm_waits_for_nothing_while_nobody_is_owed(waiting: set[Lane], size: int) -> None:
    scheduler = LaneScheduler(QUANTUM)
    lane = scheduler.choose(waiting)
    if all(share * size <= QUANTUM for share in MIN_SHARE.values()):
        scheduler.served(lane, size)
        assert scheduler.choose(waiting | {Lane.ALARM}) is Lane.ALARM


@given(waiting_sets, st.lists(st.integers(100, 30_000), min_size=1, max_size=9))
def test_every_waiting_lane_gets_its_minimum_share(waiting: set[Lane], sizes: list[int]) -> None:
    scheduler = LaneScheduler(QUANTUM)
    size = {lane: sizes[lane % len(sizes)] for lane in Lane}
    served = dict.fromkeys(waiting, 0)
    total, most = 0, max(sizes)
    for _ in range(400):
        lane = scheduler.choose(waiting)
        scheduler.served(lane, size[lane])
        served[lane] += size[lane]
        total += size[lane]
        for other in waiting:
            slack = 2 * QUANTUM + (len(waiting) + 2) * most
            assert served[other] >= MIN_SHARE[other] * total - slack


@given(waiting_sets, st.integers(100, 50_000))
def test_an_alarm_comes_up_within_a_few_frames_of_anything(waiting: set[Lane], size: int) -> None:
    scheduler = LaneScheduler(QUANTUM)
    others = waiting - {Lane.ALARM} or {Lane.TELEMETRY}
    for _ in range(50):
        scheduler.served(scheduler.choose(others), size)
    past = 0
    while (lane := scheduler.choose(others | {Lane.ALARM})) is not Lane.ALARM:
        scheduler.served(lane, size)
        past += size
    assert past <= len(others) * (QUANTUM + 2 * size)


def test_a_lane_with_nothing_to_send_is_owed_nothing() -> None:
    scheduler = LaneScheduler(QUANTUM)
    for _ in range(100):
        scheduler.served(scheduler.choose({Lane.ALARM, Lane.VITALS}), 1000)
    scheduler.choose({Lane.ALARM})
    assert scheduler.choose({Lane.ALARM, Lane.VITALS}) is Lane.ALARM
