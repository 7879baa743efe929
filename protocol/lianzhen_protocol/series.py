"""A device's minute as one record: columns of whole numbers, each as its steps.

A monitor that measures each second says nearly the same sixty times. As sixty records it is sixty
ids and sixty times; as columns of steps under a range coder a value that hardly moves takes a
fraction of a bit. What it means are the same readings as if each had come by itself.

What a blob holds, in which order and under which odds, is in docs/vitals.md. A sample has a time by
the device's clock and what is added to it; times may stray from equal steps, and samples may be
missing.
"""

import hashlib
from collections.abc import Iterator, Sequence
from itertools import pairwise
from statistics import median_low
from typing import Final, NamedTuple

from .errors import ReadingError
from .identity import uuid7
from .rangecoder import Decoder, Encoder, Odds, Stepper
from .records import Body, Milliseconds
from .vitals import Absent, ClockMark, Measurement, Parameter, Quality, VitalsReading

MAX_SAMPLES: Final = 600
MAX_BLOB_BYTES: Final = 64 << 10
MAX_SPAN_MS: Final = 3_600_000
"""From the first sample to the last."""

PARAMETERS: Final = (
    Parameter.RESPIRATION,
    Parameter.SPO2,
    Parameter.OXYGEN,
    Parameter.SYSTOLIC,
    Parameter.DIASTOLIC,
    Parameter.PULSE,
    Parameter.TEMPERATURE,
)
"""By their numbers on the wire; a new one goes to the end."""

REASONS: Final = (
    Absent.UNKNOWN,
    Absent.ASKED_DECLINED,
    Absent.NOT_PERFORMED,
    Absent.ERROR,
    Absent.NOT_A_NUMBER,
    Absent.NEGATIVE_INFINITY,
    Absent.POSITIVE_INFINITY,
)
"""By their numbers on the wire, from 2; a new one goes to the end."""

_SILENT, _VALUE, _FIRST_REASON = 0, 1, 2
_KIND_BITS: Final = 4
_MAX_MS: Final = (1 << 48) - 1  # what a UUIDv7 holds
_MAX_VALUE: Final = 1 << 34


class Sample(NamedTuple):
    """What a device said at one time; at most one measurement of a parameter.

    ``device_ms`` is by its own clock; ``offset_ms`` more is the corrected time.
    """

    device_ms: int
    offset_ms: int
    measurements: tuple[Measurement, ...]

    @property
    def corrected_ms(self) -> int:
        """By the box's clock."""
        return self.device_ms + self.offset_ms


def _zigzag(number: int) -> int:
    return number << 1 if number >= 0 else -number * 2 - 1


def _unzigzag(number: int) -> int:
    return number >> 1 if number % 2 == 0 else -(number + 1) >> 1


# -- writing


def fits(measurements: Sequence[Measurement]) -> bool:
    """Whether a series can carry them: tenths of a unit or a reason, each parameter once."""
    seen = {each.parameter for each in measurements}
    return len(seen) == len(measurements) and all(
        each.parameter in PARAMETERS
        and (
            each.absent is not None or (each.value is not None and _tenths(each.value) is not None)
        )
        for each in measurements
    )


def _tenths(value: float) -> int | None:
    found = round(value * 10)
    return found if found / 10 == value and abs(found) < _MAX_VALUE else None


def pack(samples: Sequence[Sample], received_ms: int) -> bytes:
    """The blob of samples of which the last one was received then. ValueError for none that is one.

    Times rise strictly; codes and values finer than tenths travel by themselves.
    """
    times = [sample.device_ms for sample in samples]
    if not 1 <= len(samples) <= MAX_SAMPLES or times[-1] - times[0] > MAX_SPAN_MS:
        raise ValueError(f"a series has 1 to {MAX_SAMPLES} samples within an hour")
    if times[0] < 0 or times[-1] > _MAX_MS or any(a >= b for a, b in pairwise(times)):
        raise ValueError("the times of a series rise")
    corrected = [sample.corrected_ms for sample in samples]
    if max(corrected) - min(corrected) > MAX_SPAN_MS:
        raise ValueError("a series has one clock")
    if not all(fits(sample.measurements) for sample in samples):
        raise ValueError("a series carries numbers to a tenth, each parameter once")
    lag = received_ms - samples[0].corrected_ms
    if lag < 0:
        raise ValueError("a series was received before it was measured")
    encoder = Encoder()
    encoder.number(len(samples))
    encoder.number(lag)
    _put_times(encoder, samples)
    cells = [{each.parameter: each for each in sample.measurements} for sample in samples]
    spoken = [n for n, each in enumerate(PARAMETERS) if any(each in cell for cell in cells)]
    encoder.number(sum(1 << number for number in spoken))
    for number in spoken:
        _put_column(encoder, [cell.get(PARAMETERS[number]) for cell in cells])
    return encoder.finish()


def _put_times(encoder: Encoder, samples: Sequence[Sample]) -> None:
    """The offset of the first sample, the step, and how each further sample strays from it."""
    gaps = [b.device_ms - a.device_ms for a, b in pairwise(samples)]
    step = median_low(gaps) if gaps else 0
    steps = []
    for gap, (a, b) in zip(gaps, pairwise(samples), strict=True):
        slots = max(1, (gap + step // 2) // step)
        steps.append((slots - 1, gap - slots * step, b.offset_ms - a.offset_ms))
    encoder.number(_zigzag(samples[0].offset_ms))
    encoder.number(step)
    steppers = (Stepper(), Stepper(), Stepper())
    strays = [any(column) for column in zip(*steps, strict=True)] or [False] * 3
    for stray in strays:
        encoder.plain(int(stray), 1)
    for row in steps:
        for stray, stepper, each in zip(strays, steppers, row, strict=True):
            if stray:
                encoder.step(stepper, each)


def _put_column(encoder: Encoder, cells: Sequence[Measurement | None]) -> None:
    tenths = [_tenths(cell.value) for cell in cells if cell and cell.value is not None]
    values = [each for each in tenths if each is not None]
    fine = any(value % 10 for value in values)
    whole = all(cell and cell.value is not None and cell.quality is Quality.GOOD for cell in cells)
    plain = values if fine else [value // 10 for value in values]
    encoder.plain(int(fine), 1)
    encoder.plain(int(whole), 1)
    encoder.number(_zigzag(plain[0]) if plain else 0)
    steps = iter([b - a for a, b in pairwise(plain)])
    stepper, marks, begun = Stepper(), _Marks(), False
    for cell in cells:
        kind = _kind(cell)
        if not whole:
            marks.put(encoder, kind, int(cell is not None and cell.quality is Quality.POOR))
        if kind == _VALUE:
            if begun:
                encoder.step(stepper, next(steps))
            begun = True


def _kind(cell: Measurement | None) -> int:
    if cell is None:
        return _SILENT
    return _VALUE if cell.absent is None else _FIRST_REASON + REASONS.index(cell.absent)


class _Marks:
    """Whether a sample speaks of a parameter, and how well: mostly as the one before."""

    def __init__(self) -> None:
        self.same, self.kind = Odds(), _VALUE
        self.poor, self.was_poor = (Odds(), Odds()), 0

    def put(self, encoder: Encoder, kind: int, poor: int) -> None:
        encoder.bit(self.same, int(kind != self.kind))
        if kind != self.kind:
            encoder.plain(kind, _KIND_BITS)
        if kind != _SILENT:
            encoder.bit(self.poor[self.was_poor], poor)
            self.was_poor = poor
        self.kind = kind

    def take(self, decoder: Decoder) -> tuple[int, int]:
        if decoder.bit(self.same):
            self.kind = decoder.plain(_KIND_BITS)
            if self.kind >= _FIRST_REASON + len(REASONS):
                raise ReadingError(f"a series has a reason {self.kind}")
        if self.kind != _SILENT:
            self.was_poor = decoder.bit(self.poor[self.was_poor])
            return self.kind, self.was_poor
        return _SILENT, 0


# -- reading


def unpack(blob: bytes, received_ms: int) -> tuple[Sample, ...]:
    """The samples back. ReadingError (``reading-malformed``) for every blob that ``pack`` never
    makes: it is packed again, and must come out the same.
    """
    found = unpacked(blob, received_ms)
    try:
        again = pack(found, received_ms)
    except ValueError as error:
        raise ReadingError(f"a series that cannot be: {error}") from error
    if again != blob:
        raise ReadingError("a series is cut off, or has something behind its end")
    return found


def unpacked(blob: bytes, received_ms: int) -> tuple[Sample, ...]:
    """The samples of a blob that ``unpack`` has seen before."""
    if len(blob) > MAX_BLOB_BYTES:
        raise ReadingError(f"a series of {len(blob)} bytes; at most {MAX_BLOB_BYTES}")
    decoder = Decoder(blob)
    count, lag = decoder.number(1, MAX_SAMPLES), decoder.number(0, _MAX_MS)
    times = _take_times(decoder, count, received_ms - lag)
    rows: list[list[Measurement]] = [[] for _ in times]
    spoken = decoder.number(0, (1 << len(PARAMETERS)) - 1)
    for number, parameter in enumerate(PARAMETERS):
        if spoken >> number & 1:
            for row, cell in zip(rows, _cells(decoder, parameter, count), strict=True):
                row.extend(cell)
    return tuple(
        Sample(at, offset, tuple(row)) for (at, offset), row in zip(times, rows, strict=True)
    )


def _take_times(decoder: Decoder, count: int, corrected_ms: int) -> list[tuple[int, int]]:
    offset = _unzigzag(decoder.number(0, 1 << 47))
    step, at = decoder.number(0, MAX_SPAN_MS), corrected_ms - offset
    strays = [decoder.plain(1) for _ in range(3)]
    steppers, found = (Stepper(), Stepper(), Stepper()), [(at, offset)]
    for _ in range(count - 1):
        slots, stray, moved = (
            decoder.step(stepper) if strays[n] else 0 for n, stepper in enumerate(steppers)
        )
        at, offset = at + (slots + 1) * step + stray, offset + moved
        found.append((at, offset))
    return found


def _cells(decoder: Decoder, parameter: Parameter, count: int) -> Iterator[tuple[Measurement, ...]]:
    scale = 10 if decoder.plain(1) else 1
    whole = decoder.plain(1)
    value = _unzigzag(decoder.number(0, 2 * _MAX_VALUE))
    stepper, marks, begun = Stepper(), _Marks(), False
    for _ in range(count):
        kind, poor = (_VALUE, 0) if whole else marks.take(decoder)
        quality = Quality.POOR if poor else Quality.GOOD
        if kind == _SILENT:
            yield ()
        elif kind == _VALUE:
            value += decoder.step(stepper) if begun else 0
            begun = True
            yield (Measurement(parameter=parameter, value=value / scale, quality=quality),)
        else:
            reason = REASONS[kind - _FIRST_REASON]
            yield (Measurement(parameter=parameter, absent=reason, quality=quality),)


# -- the record


class VitalsSeries(Body, frozen=True, kw_only=True, omit_defaults=True):
    """What a device measured, a minute of it at a time, as samples.

    Whose it is is found by the device and each sample's time, as for a reading; ``patient_id`` is
    for what comes of no device of the clinic. ``samples`` is a blob of columns (docs/vitals.md).
    """

    device: bytes = b""
    """Its id, 16 bytes; empty for none."""
    patient_id: str = ""
    received_ms: Milliseconds
    """When the last sample came; a series is closed before it is an hour long."""
    clock: ClockMark = ClockMark.GOOD
    samples: bytes


def sample_id(source: bytes, sample: Sample) -> str:
    """The id of a sample's reading; ``source`` is the device, or the record where there is none."""
    times = sample.device_ms.to_bytes(8, "big") + sample.corrected_ms.to_bytes(8, "big")
    return uuid7(sample.corrected_ms, hashlib.sha256(source + times).digest()[:10]).hex()


def readings(
    identity: bytes, body: VitalsSeries, *, seen_before: bool = False
) -> Iterator[tuple[str, VitalsReading]]:
    """The id and the reading of each sample; ReadingError if they cannot be read.

    Ids follow from device and times, so that a box can name a reading before its minute is over.
    """
    if len(body.device) not in (0, 16):
        raise ReadingError(f"a device's id of {len(body.device)} bytes")
    open_samples = unpacked if seen_before else unpack
    for sample in open_samples(body.samples, body.received_ms):
        if not 0 <= sample.corrected_ms <= _MAX_MS:
            raise ReadingError("a series of no time that there is")
        yield (
            sample_id(body.device or identity, sample),
            VitalsReading(
                patient_id=body.patient_id,
                device_id=body.device.hex(),
                measurements=sample.measurements,
                device_ms=sample.device_ms,
                sent_ms=body.received_ms - sample.offset_ms,
                received_ms=body.received_ms,
                corrected_ms=sample.corrected_ms,
                offset_ms=sample.offset_ms,
                clock=body.clock,
            ),
        )


KINDS: Final[dict[str, dict[int, type[Body]]]] = {"vitals.series": {1: VitalsSeries}}
