"""Messages of devices: what is refused and how it is said, and whose clock is believed."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lianzhen_protocol import wearables
from lianzhen_protocol.errors import ReadingError
from lianzhen_protocol.vitals import Absent, ClockMark, Parameter
from lianzhen_protocol.wearables import MAX_AGE_MS, STEADY_MS, Corrected, DeviceClock, Message

NOW = 1_795_400_000_000
DAY = 86_400_000


def message(sent: int, age: int = 0, **values: object) -> bytes:
    found = values or {"pulse": {"value": 80, "unit": "/min"}}
    whole = {"id": "m1", "measured_ms": sent - age, "sent_ms": sent, "values": found}
    return json.dumps(whole).encode()


def test_a_message_is_read() -> None:
    found = wearables.parse(
        message(
            NOW,
            1500,
            spo2={"value": 97, "unit": "%"},
            temperature={"value": 98.6, "unit": "[degF]", "quality": "poor"},
            consciousness={"code": "A"},
            pulse={"absent": "error"},
        )
    )
    by = {each.parameter: each for each in found.measurements}
    assert by[Parameter.SPO2].value == 97
    assert (by[Parameter.TEMPERATURE].value, by[Parameter.TEMPERATURE].quality) == (37.0, "poor")
    assert by[Parameter.CONSCIOUSNESS].code == "A"
    assert (by[Parameter.PULSE].value, by[Parameter.PULSE].absent) == (None, Absent.ERROR)
    assert found.doubts == ()


@pytest.mark.parametrize(
    ("payload", "says"),
    [
        (b"", "truncated"),
        (b"{", "truncated"),
        (b"\xff\xfe", "malformed"),
        (b"[" * 5000, "recursion|malformed|Expected"),
        (b"[]", "Expected `object`"),
        (b"{}", "missing required field `id`"),
        (b'{"id": "m 1", "measured_ms": 1, "sent_ms": 1, "values": {}}', r"\$\.id"),
        (message(NOW, glucose={"value": 5, "unit": "mmol/L"}), "Invalid enum value 'glucose'"),
        (message(NOW, pulse={"value": "80", "unit": "/min"}), r"Expected `float.*values"),
        (message(NOW, pulse={"value": 80}), "unit ''; send it in /min"),
        (message(NOW, pulse={}), "give one of value"),
        (message(NOW, pulse={"value": 8, "unit": "/min", "absent": "error"}), "give one of value"),
        (message(NOW, pulse={"value": 80, "unit": "/min", "colour": "red"}), "unknown field"),
        (message(NOW, pulse={"absent": "whatever"}), "Invalid enum value 'whatever'"),
        (message(NOW, consciousness={"code": "asleep"}), "A, C, V, P, U"),
        (message(1 << 60), r"\$\.(measured|sent)_ms"),
        (message(-5), r"\$\.(measured|sent)_ms"),
        (b'{"id": "m1", "measured_ms": 1, "sent_ms": 1, "values": {}}', r"length >= 1"),
        (message(NOW).replace(b"80", b"NaN"), "malformed|invalid"),
        (message(NOW).replace(b"80", b"1e999"), "out of range"),
        (b" " * 20_000, "20000 bytes; at most 16384"),
    ],
)
def test_what_is_no_message_is_refused_in_a_sentence(payload: bytes, says: str) -> None:
    with pytest.raises(ReadingError, match=says):
        wearables.parse(payload)


@pytest.mark.parametrize(
    ("values", "lost"),
    [
        ({"spo2": {"value": 250, "unit": "%"}}, {Parameter.SPO2}),
        ({"pulse": {"value": 0, "unit": "/min"}}, {Parameter.PULSE}),
        (
            {
                "systolic": {"value": 80, "unit": "mm[Hg]"},
                "diastolic": {"value": 120, "unit": "mm[Hg]"},
            },
            {Parameter.SYSTOLIC, Parameter.DIASTOLIC},
        ),
    ],
)
def test_an_impossible_value_is_absent_and_the_others_stay(
    values: dict[str, Any], lost: set[Parameter]
) -> None:
    found = wearables.parse(message(NOW, **values, respiration={"value": 16, "unit": "/min"}))
    assert {each.parameter for each in found.measurements if each.absent} == lost
    assert {each.value for each in found.measurements if not each.absent} == {16}
    assert len(found.doubts) == 1


@given(st.binary(max_size=200))
def test_no_bytes_break_the_parser(payload: bytes) -> None:
    wearables.message_id(payload)
    with pytest.raises(ReadingError):
        wearables.parse(payload)


def test_a_message_is_refused_by_its_name_if_it_has_one() -> None:
    assert wearables.message_id(b'{"id" : "a-1", "values": nonsense') == "a-1"
    assert wearables.message_id(b'{"id": "\\u0041"}') == ""


# --- clocks ---


def told(sent: int, age: int = 0) -> Message:
    return wearables.parse(message(sent, age)).message


def run(*seen: tuple[int, int, int]) -> list[Corrected]:
    """(sent, received, age) -> what came of each."""
    clock, found = DeviceClock(), []
    for sent, received, age in seen:
        clock, corrected = wearables.correct(clock, told(sent, age), received)
        found.append(corrected)
    return found


@pytest.mark.parametrize(
    ("wrong", "mark"),
    [
        (0, ClockMark.GOOD),
        (-1500, ClockMark.GOOD),
        (60_000, ClockMark.OFFSET),
        (365 * DAY, ClockMark.OFFSET),
        (-365 * DAY, ClockMark.OFFSET),
        (5000 - NOW, ClockMark.UNSET),  # 1970
    ],
)
def test_a_steady_error_is_taken_out(wrong: int, mark: ClockMark) -> None:
    found = run(*((NOW + wrong + at, NOW + at + 80, 700) for at in range(0, 60_000, 10_000)))
    for at, corrected in zip(range(0, 60_000, 10_000), found, strict=True):
        assert corrected.at_ms == NOW + at + 80 - 700
        assert corrected.offset_ms == 80 - wrong
        assert corrected.mark is mark


def test_a_message_that_waited_does_not_move_the_clock() -> None:
    steady = [(NOW + at, NOW + at, 0) for at in range(0, 50_000, 10_000)]
    late = (NOW + 50_000, NOW + 50_000 + 3_600_000, 0)
    after = (NOW + 3_660_000, NOW + 3_660_000, 0)
    *_, delayed, next_one = run(*steady, late, after)
    assert delayed == Corrected(NOW + 50_000, 0, ClockMark.DOUBTFUL)
    assert next_one.mark is ClockMark.GOOD


def test_a_clock_that_was_put_back_is_believed_after_three_messages() -> None:
    steady = [(NOW + at, NOW + at, 0) for at in range(0, 50_000, 10_000)]
    back = [(NOW + at - DAY, NOW + at, 0) for at in range(50_000, 90_000, 10_000)]
    found = run(*steady, *back)[5:]
    doubtful, jumped = ClockMark.DOUBTFUL, ClockMark.JUMPED
    assert [each.mark for each in found] == [doubtful, doubtful, jumped, ClockMark.OFFSET]
    assert [each.at_ms for each in found[2:]] == [NOW + 70_000, NOW + 80_000]


def test_a_clock_that_was_put_ahead_is_noticed_at_once() -> None:
    """As when a device whose clock said 1970 learns the time."""
    found = run((5_000, NOW, 0), (15_000, NOW + 10_000, 0), (NOW + 20_000, NOW + 20_000, 0))
    assert [each.mark for each in found] == [ClockMark.UNSET, ClockMark.UNSET, ClockMark.JUMPED]
    assert [each.at_ms for each in found] == [NOW, NOW + 10_000, NOW + 20_000]


@pytest.mark.parametrize("age", [-1, MAX_AGE_MS + 1, NOW - 5000])
def test_a_clock_that_was_moved_between_measuring_and_sending_is_refused(age: int) -> None:
    with pytest.raises(ReadingError, match="clock was moved") as refusal:
        wearables.correct(DeviceClock(), told(NOW, age), NOW)
    assert refusal.value.code == "clock-moved"


@given(
    st.lists(
        st.tuples(
            st.integers(0, (1 << 48) - 1), st.integers(NOW, NOW + 30 * DAY), st.integers(0, DAY)
        ),
        min_size=1,
        max_size=30,
    )
)
def test_no_device_clock_makes_a_reading_of_the_future_or_of_long_ago(
    seen: list[tuple[int, int, int]],
) -> None:
    clock = DeviceClock()
    for sent, received, age in seen:
        one = Message("m", max(sent - age, 0), sent, {})
        clock, found = wearables.correct(clock, one, received)
        assert received - MAX_AGE_MS <= found.at_ms <= received
        assert len(clock.samples) <= wearables.SAMPLES


@given(st.integers(-DAY * 400, DAY * 400), st.lists(st.integers(0, STEADY_MS // 2), min_size=1))
def test_a_network_that_varies_never_makes_a_clock_look_moved(
    wrong: int, delays: list[int]
) -> None:
    clock = DeviceClock()
    for at, delay in enumerate(delays):
        sent = NOW + at * 1000
        clock, found = wearables.correct(clock, told(sent + wrong), sent + delay)
        assert found.mark in (ClockMark.GOOD, ClockMark.OFFSET)
        assert abs(found.at_ms - sent) <= STEADY_MS // 2
