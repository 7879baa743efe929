"""A device's minute in columns: nothing is lost, little is sent, junk is refused."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lianzhen_protocol import records, series
from lianzhen_protocol.common_meanings import apply_bedside
from lianzhen_protocol.errors import ReadingError
from lianzhen_protocol.frame import Frame, FrameCodec
from lianzhen_protocol.identity import Epoch, uuid7
from lianzhen_protocol.kinds import encode
from lianzhen_protocol.series import MAX_SAMPLES, PARAMETERS, REASONS, Samples, VitalsSeries
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
VECTOR = Samples(
    1000,
    (
        (Measurement(parameter=Parameter.SPO2, value=97.0),
         Measurement(parameter=Parameter.TEMPERATURE, value=36.6)),
        (Measurement(parameter=Parameter.SPO2, value=96.0, quality=Quality.POOR),
         failed(Parameter.TEMPERATURE)),
        (Measurement(parameter=Parameter.SPO2, value=96.0),),
    ),
)  # fmt: skip

values = st.integers(-(10**6), 10**6).map(lambda tenths: tenths / 10)
qualities = st.sampled_from(Quality)
cells = st.one_of(
    st.none(),
    st.builds(lambda v, q: {"value": v, "quality": q}, values, qualities),
    st.builds(lambda a, q: {"absent": a, "quality": q}, st.sampled_from(REASONS[1:]), qualities),
)


@st.composite
def samples(draw: st.DrawFn) -> Samples:
    """Anything that a device may have measured."""
    spoken = draw(st.sets(st.sampled_from(PARAMETERS)))
    rows = []
    for _ in range(draw(st.integers(1, 40))):
        found = {parameter: draw(cells) for parameter in PARAMETERS if parameter in spoken}
        rows.append(tuple(Measurement(parameter=p, **c) for p, c in found.items() if c))
    return Samples(draw(st.integers(1, series.MAX_STEP_MS)), tuple(rows))


def minute(chance: random.Random, count: int = 60) -> Samples:
    """A patient at rest, each second, five parameters."""
    now = {Parameter.RESPIRATION: 16.0, Parameter.SPO2: 97.0, Parameter.SYSTOLIC: 121.0,
           Parameter.PULSE: 74.0, Parameter.TEMPERATURE: 36.7}  # fmt: skip
    moves = {Parameter.RESPIRATION: (0.1, 1.0), Parameter.SPO2: (0.1, 1.0),
             Parameter.SYSTOLIC: (0.2, 1.0), Parameter.PULSE: (0.4, 1.0),
             Parameter.TEMPERATURE: (0.05, 0.1)}  # fmt: skip
    rows = []
    for _ in range(count):
        for parameter, (often, step) in moves.items():
            if chance.random() < often:
                now[parameter] = round(now[parameter] + chance.choice((-step, step)), 1)
        rows.append(tuple(Measurement(parameter=p, value=now[p]) for p in PARAMETERS if p in now))
    return Samples(1000, tuple(rows))


@given(samples())
@settings(max_examples=60)
def test_what_was_measured_comes_back(found: Samples) -> None:
    assert series.unpack(series.pack(found)) == found


@given(st.binary(max_size=60))
@settings(max_examples=200)
def test_junk_is_refused_and_nothing_else_happens(blob: bytes) -> None:
    try:
        found = series.unpack(blob)
    except ReadingError:
        return
    assert 1 <= len(found.rows) <= MAX_SAMPLES


@given(samples(), st.data())
@settings(max_examples=60)
def test_a_blob_that_was_cut_is_refused(found: Samples, data: st.DataObject) -> None:
    blob = series.pack(found)
    cut = data.draw(st.integers(0, len(blob) - 1))
    with pytest.raises(ReadingError):
        series.unpack(blob[:cut])
    with pytest.raises(ReadingError):
        series.unpack(blob + b"\0")


def test_the_bytes_of_a_series_are_these() -> None:
    blob = bytes.fromhex("e807030201010000010101c2010180060a000201010400010000dc0500")
    assert series.pack(VECTOR).hex() == blob.hex()
    assert series.unpack(blob) == VECTOR


@pytest.mark.parametrize(
    "rows",
    [
        (),
        ((coded(Parameter.CONSCIOUSNESS, "A"),),),
        ((Measurement(parameter=Parameter.SPO2, value=97.25),),),
        ((failed(Parameter.SPO2), failed(Parameter.SPO2)),),
        ((),) * (MAX_SAMPLES + 1),
    ],
)
def test_what_no_series_can_be_is_refused(rows: tuple[tuple[Measurement, ...], ...]) -> None:
    with pytest.raises(ValueError, match=r"a ser|a sample|codes"):
        series.pack(Samples(1000, rows))


def test_a_minute_of_five_parameters_takes_less_than_a_hundred_bytes() -> None:
    chance = random.Random(1)
    sizes = [len(series.pack(minute(chance))) for _ in range(100)]
    assert sum(sizes) / len(sizes) < 100


def test_devices_of_a_ward_share_a_frame_of_two_hundred_bytes_a_minute() -> None:
    chance, codec = random.Random(2), FrameCodec()
    entries = []
    for _ in range(4):
        body = VitalsSeries(
            patient_id=chance.randbytes(16).hex(),
            device_id=chance.randbytes(16).hex(),
            received_ms=AT + 60_100,
            corrected_ms=AT,
            samples=series.pack(minute(chance)),
        )
        entries.append(encode(body, uuid7(AT, chance.randbytes(10)), AT))
    frame = Frame(Epoch(bytes(16)), "vitals.readings", 1, bytes(32), tuple(entries))
    assert len(codec.encode(frame)) / 4 <= 200


def test_a_series_means_what_its_readings_mean() -> None:
    body = VitalsSeries(
        patient_id="p", device_id="d", received_ms=AT + 5000, corrected_ms=AT, offset_ms=700,
        samples=series.pack(VECTOR),
    )  # fmt: skip
    found = list(series.readings(b"i" * 16, body))
    assert [reading.corrected_ms for _, reading in found] == [AT, AT + 1000, AT + 2000]
    assert [reading.measurements for _, reading in found] == list(VECTOR.rows)
    assert found[0][1].device_ms == AT - 700
    assert [name for name, _ in found] == [name for name, _ in series.readings(b"i" * 16, body)]
    assert len({name for name, _ in found}) == 3


class Page(MemorySheets):
    """Sheets of one box."""

    node = "n0123456789ab"


def test_a_series_is_kept_as_its_readings_and_tells_the_present_state() -> None:
    body = VitalsSeries(
        patient_id="p", device_id="", received_ms=AT + 5000, corrected_ms=AT,
        samples=series.pack(VECTOR),
    )  # fmt: skip
    record = records.decode(encode(body, uuid7(AT, bytes(10)), AT))
    page = Page()
    for _ in range(2):  # once more changes nothing
        apply_bedside(page, record, body, alarm_node="")
        assert len(page.find(Reading)) == 3
    state = page.get(Vitals, "p")
    assert state is not None
    assert state.latest[Parameter.SPO2].value == 96.0
    assert state.latest[Parameter.SPO2].at_ms == AT + 2000
    assert state.latest[Parameter.TEMPERATURE].failing


def test_a_series_that_cannot_be_read_is_refused_with_its_code() -> None:
    body = VitalsSeries(
        patient_id="p", device_id="", received_ms=AT, corrected_ms=AT, samples=b"\xff"
    )
    record = records.decode(encode(body, uuid7(AT, bytes(10)), AT))
    page = Page()
    with pytest.raises(ReadingError) as refused:
        apply_bedside(page, record, body, alarm_node="")
    assert refused.value.code == "reading-malformed"
    assert page.find(Reading) == []
