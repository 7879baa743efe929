"""A device's minute in columns: nothing is lost, little is sent, junk is refused."""

import random
from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lianzhen_protocol import bedside, keepers, records, series
from lianzhen_protocol.bindings import Binding
from lianzhen_protocol.common_meanings import apply_bedside
from lianzhen_protocol.errors import ReadingError
from lianzhen_protocol.identity import uuid7
from lianzhen_protocol.kinds import encode
from lianzhen_protocol.minutes import Minute
from lianzhen_protocol.people import By
from lianzhen_protocol.series import MAX_SAMPLES, PARAMETERS, REASONS, Sample, VitalsSeries
from lianzhen_protocol.vitals import (
    Measurement,
    Parameter,
    Quality,
    Reading,
    Vitals,
    coded,
    failed,
)
from support.memory_sheets import MemorySheets

AT = 1_795_392_000_000
RECEIVED = AT + 60_100
NODE = "n0123456789ab"
DEVICE = bytes.fromhex("d" * 32)
PULSE, SPO2, TEMPERATURE = Parameter.PULSE, Parameter.SPO2, Parameter.TEMPERATURE
VECTOR = (
    Sample(AT - 700, 700, (Measurement(parameter=SPO2, value=97.0),
                           Measurement(parameter=TEMPERATURE, value=36.6))),
    Sample(AT + 301, 700, (Measurement(parameter=SPO2, value=96.0, quality=Quality.POOR),
                           failed(TEMPERATURE))),
    Sample(AT + 4300, 698, (Measurement(parameter=SPO2, value=96.0),)),
)  # fmt: skip
VECTOR_BYTES = "0a86ac4050d67a66f0530ee7910e6279d41e3fd8"

values = st.integers(-(10**6), 10**6).map(lambda tenths: tenths / 10)
qualities = st.sampled_from(Quality)
cells = st.one_of(
    st.none(),
    st.builds(lambda v, q: {"value": v, "quality": q}, values, qualities),
    st.builds(lambda a, q: {"absent": a, "quality": q}, st.sampled_from(REASONS), qualities),
)


@st.composite
def samples(draw: st.DrawFn) -> tuple[Sample, ...]:
    """Anything that a device may have measured."""
    spoken = draw(st.sets(st.sampled_from(PARAMETERS)))
    gaps = draw(st.lists(st.integers(1, 90_000) | st.just(1000), min_size=0, max_size=39))
    offset = draw(st.integers(-AT, AT))
    made = []
    for at in accumulate(gaps, initial=AT):
        found = {parameter: draw(cells) for parameter in PARAMETERS if parameter in spoken}
        row = tuple(Measurement(parameter=p, **c) for p, c in found.items() if c)
        made.append(Sample(at, offset, row))
        offset += draw(st.just(0) | st.integers(-50, 50))
    return tuple(made)


def received(found: tuple[Sample, ...]) -> int:
    """Some time after all of them."""
    return max(0, *(sample.corrected_ms for sample in found)) + 40


def minute(chance: random.Random, count: int = 60, at: int = AT) -> tuple[Sample, ...]:
    """A patient at rest, each second, five parameters."""
    now = {Parameter.RESPIRATION: 16.0, SPO2: 97.0, Parameter.SYSTOLIC: 121.0,
           PULSE: 74.0, TEMPERATURE: 36.7}  # fmt: skip
    moves = {Parameter.RESPIRATION: (0.1, 1.0), SPO2: (0.1, 1.0),
             Parameter.SYSTOLIC: (0.2, 1.0), PULSE: (0.4, 1.0),
             TEMPERATURE: (0.05, 0.1)}  # fmt: skip
    rows = []
    for _ in range(count):
        for parameter, (often, step) in moves.items():
            if chance.random() < often:
                now[parameter] = round(now[parameter] + chance.choice((-step, step)), 1)
        rows.append(tuple(Measurement(parameter=p, value=now[p]) for p in PARAMETERS if p in now))
    return tuple(Sample(at + 1000 * n, 0, row) for n, row in enumerate(rows))


@given(samples())
@settings(max_examples=60)
def test_what_was_measured_comes_back(found: tuple[Sample, ...]) -> None:
    at = received(found)
    assert series.unpack(series.pack(found, at), at) == found


@given(st.binary(max_size=60))
@settings(max_examples=200)
def test_junk_is_refused_and_nothing_else_happens(blob: bytes) -> None:
    try:
        found = series.unpack(blob, RECEIVED)
    except ReadingError:
        return
    assert 1 <= len(found) <= MAX_SAMPLES


@given(samples(), st.data())
@settings(max_examples=60)
def test_a_blob_that_was_changed_is_refused_or_is_another_series(
    found: tuple[Sample, ...], data: st.DataObject
) -> None:
    """Nothing of a blob is let pass without a meaning."""
    at = received(found)
    blob = series.pack(found, at)
    cut = data.draw(st.integers(0, len(blob) - 1))
    for wrong in (blob[:cut], blob + b"\0", blob + b"\1"):
        try:
            other = series.unpack(wrong, at)
        except ReadingError:
            continue
        assert other != found
        assert series.pack(other, at) == wrong


def test_the_bytes_of_a_series_are_these() -> None:
    assert series.pack(VECTOR, RECEIVED).hex() == VECTOR_BYTES
    assert series.unpack(bytes.fromhex(VECTOR_BYTES), RECEIVED) == VECTOR


def plain(*measurements: Measurement) -> Sample:
    return Sample(AT, 0, measurements)


@pytest.mark.parametrize(
    "found",
    [
        (),
        (plain(coded(Parameter.CONSCIOUSNESS, "A")),),
        (plain(Measurement(parameter=SPO2, value=97.25)),),
        (plain(failed(SPO2), failed(SPO2)),),
        (plain(failed(SPO2)), plain(failed(SPO2))),
        (plain(failed(SPO2)), Sample(AT + series.MAX_SPAN_MS + 1, 0, (failed(SPO2),))),
        (plain(failed(SPO2)), Sample(AT + 1, series.MAX_SPAN_MS, (failed(SPO2),))),
        tuple(Sample(AT + n, 0, ()) for n in range(MAX_SAMPLES + 1)),
        (Sample(RECEIVED, 1, ()),),
    ],
)
def test_what_no_series_can_be_is_refused(found: tuple[Sample, ...]) -> None:
    with pytest.raises(ValueError, match=r"a series"):
        series.pack(found, RECEIVED)


def test_a_minute_of_five_parameters_takes_less_than_sixty_bytes() -> None:
    chance = random.Random(1)
    sizes = [len(series.pack(minute(chance), RECEIVED)) for _ in range(50)]
    assert sum(sizes) / len(sizes) < 60


# -- what it means


class Page(MemorySheets):
    """Sheets of one box."""

    node = NODE


def told(page: Page, found: tuple[Sample, ...], number: int = 0) -> str:
    """The record is applied; its id."""
    at = received(found)
    body = VitalsSeries(device=DEVICE, received_ms=at, samples=series.pack(found, at))
    record = records.decode(encode(body, uuid7(AT, bytes([number] * 10)), AT))
    apply_bedside(page, record, body, alarm_node="")
    return record.id.hex()


def worn(page: Page, patient: str, from_ms: int, to_ms: int | None = None) -> None:
    page.put(
        Binding(id=f"{patient}{from_ms}", node=NODE, device=DEVICE.hex(), patient=patient,
                from_ms=from_ms, to_ms=to_ms, bound_by=By(account="1" * 32, name="王"))
    )  # fmt: skip


def test_a_series_means_what_its_readings_mean() -> None:
    body = VitalsSeries(device=DEVICE, received_ms=RECEIVED, samples=series.pack(VECTOR, RECEIVED))
    found = list(series.readings(b"i" * 16, body))
    assert [reading.corrected_ms for _, reading in found] == [AT, AT + 1001, AT + 4998]
    assert [reading.device_ms for _, reading in found] == [each.device_ms for each in VECTOR]
    assert [reading.measurements for _, reading in found] == [each[2] for each in VECTOR]
    assert [name for name, _ in found] == [name for name, _ in series.readings(b"x" * 16, body)]
    assert len({name for name, _ in found}) == 3


def test_a_series_is_kept_as_one_sheet_and_tells_the_present_state() -> None:
    page = Page()
    worn(page, "p", AT)
    for _ in range(2):  # once more changes nothing
        told(page, VECTOR)
        (kept,) = page.find(Minute)
        assert page.find(Reading) == []
    assert (kept.patient_id, kept.from_ms, kept.to_ms) == ("p", AT, AT + 4998)
    state = page.get(Vitals, "p")
    assert state is not None
    assert state.latest[SPO2].value == 96.0
    assert state.latest[SPO2].at_ms == AT + 4998
    assert state.latest[SPO2].reading_id == kept.readings()[-1].id
    assert state.latest[TEMPERATURE].failing


def test_a_minute_in_which_the_device_changed_hands_is_each_ones_own() -> None:
    page = Page()
    told(page, minute(random.Random(1)))
    (kept,) = page.find(Minute)
    assert kept.subject == DEVICE.hex()
    worn(page, "p", AT, AT + 20_000)
    worn(page, "q", AT + 30_000)
    keepers.look_again(page, NODE, DEVICE.hex(), AT, RECEIVED)
    assert page.find(Minute) == []
    counts = [len(page.find(Reading, owner=each)) for each in ("p", DEVICE.hex(), "q")]
    assert counts == [20, 10, 30]
    state = page.get(Vitals, "p")
    assert state is not None
    assert state.heard_ms == AT + 19_000


def test_a_minute_that_was_given_to_somebody_moves_as_one() -> None:
    page = Page()
    told(page, minute(random.Random(1)))
    worn(page, "p", AT - 1)
    keepers.look_again(page, NODE, DEVICE.hex(), AT + 30_000, RECEIVED)
    (kept,) = page.find(Minute)
    assert kept.subject == "p"
    state = page.get(Vitals, DEVICE.hex())
    assert state is not None
    assert state.latest == {}


def test_a_series_that_cannot_be_read_is_refused_with_its_code() -> None:
    body = VitalsSeries(device=DEVICE, received_ms=AT, samples=b"\xff")
    record = records.decode(encode(body, uuid7(AT, bytes(10)), AT))
    page = Page()
    with pytest.raises(ReadingError) as refused:
        apply_bedside(page, record, body, alarm_node="")
    assert refused.value.code == "reading-malformed"
    assert page.find(Minute) == []


# -- the chart


def test_a_chart_shows_seconds_of_minutes_and_of_single_readings_with_their_gaps() -> None:
    page = Page()
    worn(page, "p", 0)
    told(page, minute(random.Random(1)))
    told(page, minute(random.Random(2), 30, AT + 120_000), 1)
    told(page, VECTOR, 2)
    found = bedside.trend(page, "p", AT + 10_000)
    assert found.times == sorted(found.times)
    assert found.times[0] == AT + 10_000
    assert len(found.times) == 50 + 1 + 30, "seconds, and the gap between"
    (gap,) = found.ends[PULSE]
    assert found.times[gap] == AT + 59_001
    assert all(column[gap] is None for column in found.columns.values())


def test_a_chart_of_many_hours_keeps_the_highest_and_the_lowest() -> None:
    page = Page()
    worn(page, "p", 0)
    chance = random.Random(3)
    for at in range(130):
        found = minute(chance, at=AT + at * 60_000)
        if at == 20:
            odd = (Measurement(parameter=PULSE, value=180.0),)
            found = (*found[:30], found[30]._replace(measurements=odd), *found[31:])
        told(page, found, at)
    shown = bedside.trend(page, "p", AT)
    assert len(shown.times) <= bedside.TREND_ROWS
    pulses = [value for value in shown.columns[PULSE] if value is not None]
    assert max(pulses) == 180.0
    assert shown.times[0] == AT
    assert shown.times[-1] == AT + 130 * 60_000 - 1000
    assert shown.ends[PULSE] == []
