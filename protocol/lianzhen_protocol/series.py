"""A device's minute as one record: columns of whole numbers, each as differences of a few bits.

A monitor that measures each second says nearly the same sixty times. As sixty records it is sixty
ids and sixty times; as columns of differences in Rice's code (IEEE Trans. Commun. COM-19, 1971, the
code of FLAC) a value that hardly moves takes one to three bits. What it means are the same readings
as if each had come by itself (docs/vitals.md).

A blob is: step in ms, number of samples, number of columns, and then for each column: parameter;
1 or 10 (steps of 1 or 0.1 of the unit); Rice's parameter; the runs without a value (how many, then
gap, length and reason of each); the runs of poor signal (how many, then gap and length of each);
the first value; how many bytes of code, and the code: each further value less the one before.
Numbers are LEB128; values and differences are in zigzag.
"""

import hashlib
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from .errors import ReadingError
from .identity import uuid7
from .records import Body, Milliseconds
from .vitals import Absent, ClockMark, Measurement, Parameter, Quality, VitalsReading

MAX_SAMPLES: Final = 600
MAX_BLOB_BYTES: Final = 64 << 10
MAX_STEP_MS: Final = 3_600_000

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
    None,  # the sample does not speak of this parameter
    Absent.UNKNOWN,
    Absent.ASKED_DECLINED,
    Absent.NOT_PERFORMED,
    Absent.ERROR,
    Absent.NOT_A_NUMBER,
    Absent.NEGATIVE_INFINITY,
    Absent.POSITIVE_INFINITY,
)
"""By their numbers on the wire; a new one goes to the end."""

_MAX_RICE: Final = 20
_MAX_NUMBER: Final = 1 << 34


class Samples(NamedTuple):
    """What a device measured at equal steps; each row has at most one value of a parameter."""

    step_ms: int
    rows: tuple[tuple[Measurement, ...], ...]


# -- numbers


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _zigzag(number: int) -> int:
    return number << 1 if number >= 0 else -number * 2 - 1


def _unzigzag(number: int) -> int:
    return number >> 1 if number % 2 == 0 else -(number + 1) >> 1


def _rice(numbers: Sequence[int], parameter: int) -> bytes:
    """Quotients in unary (ones, then a zero), the rest in ``parameter`` bits; zeros to the end."""
    bits = "".join(
        "1" * (number >> parameter)
        + "0"
        + (f"{number & (1 << parameter) - 1:0{parameter}b}" if parameter else "")
        for number in numbers
    )
    return int(bits.ljust(-(-len(bits) // 8) * 8, "0") or "0", 2).to_bytes(
        -(-len(bits) // 8), "big"
    )


def _unrice(code: bytes, parameter: int, count: int) -> list[int]:
    bits = f"{int.from_bytes(code, 'big'):0{len(code) * 8}b}" if code else ""
    found, at = [], 0
    for _ in range(count):
        zero = bits.find("0", at)
        end = zero + 1 + parameter
        if zero < 0 or end > len(bits):
            raise ReadingError("a series ends in the middle of a column")
        rest = int(bits[zero + 1 : end], 2) if parameter else 0
        found.append((zero - at) << parameter | rest)
        at = end
    return found


class _Reader:
    """Takes a blob apart; ReadingError where it ends too soon."""

    def __init__(self, blob: bytes) -> None:
        self._blob, self._at = blob, 0

    def number(self, low: int, high: int) -> int:
        found = shift = 0
        for byte in self._blob[self._at :]:
            self._at += 1
            found |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                if not low <= found <= high:
                    raise ReadingError(f"a series has a number of {found}; {low} to {high}")
                return found
            if found > _MAX_NUMBER:
                break
        raise ReadingError("a series has a number without an end")

    def take(self, size: int) -> bytes:
        found = self._blob[self._at : self._at + size]
        self._at += size
        if len(found) != size:
            raise ReadingError("a series is cut off")
        return found

    def end(self) -> None:
        if self._at != len(self._blob):
            raise ReadingError("a series has something behind its end")


# -- columns


def pack(samples: Samples) -> bytes:
    """The blob. ValueError for what no series can be: codes, finer values, too many samples."""
    rows = samples.rows
    if not 1 <= len(rows) <= MAX_SAMPLES or not 1 <= samples.step_ms <= MAX_STEP_MS:
        raise ValueError(f"a series has 1 to {MAX_SAMPLES} samples, at most an hour apart")
    cells: list[dict[Parameter, Measurement]] = [{m.parameter: m for m in row} for row in rows]
    if any(len(cell) != len(row) for cell, row in zip(cells, rows, strict=True)):
        raise ValueError("a sample has two values of one parameter")
    spoken = [number for number, each in enumerate(PARAMETERS) if any(each in c for c in cells)]
    if any(parameter not in PARAMETERS for cell in cells for parameter in cell):
        raise ValueError("a series carries numbers and no codes")
    columns = b"".join(_column(n, [cell.get(PARAMETERS[n]) for cell in cells]) for n in spoken)
    head = (samples.step_ms, len(rows), len(spoken))
    return b"".join(map(_varint, head)) + columns


def _column(number: int, cells: Sequence[Measurement | None]) -> bytes:
    values = [round(cell.value * 10) for cell in cells if cell and cell.value is not None]
    exact = [cell.value for cell in cells if cell and cell.value is not None]
    if any(tenths / 10 != value for tenths, value in zip(values, exact, strict=True)):
        raise ValueError("a series carries tenths of a unit, and nothing finer")
    scale = 1 if all(value % 10 == 0 for value in values) else 10
    plain = [value * scale // 10 for value in values]
    steps = [_zigzag(b - a) for a, b in pairwise(plain)]
    rice = min(range(_MAX_RICE), key=lambda k: sum((step >> k) + 1 + k for step in steps))
    code = _rice(steps, rice)
    if not values and any(cell and cell.absent is None for cell in cells):
        raise ValueError("a series carries numbers and no codes")
    missing = [None if cell and cell.value is not None else _reason(cell) for cell in cells]
    poor = [1 if cell and cell.quality is Quality.POOR else None for cell in cells]
    return b"".join(
        (
            *map(_varint, (number, scale, rice)),
            _runs(missing, with_value=True),
            _runs(poor, with_value=False),
            _varint(_zigzag(plain[0]) if plain else 0),
            _varint(len(code)),
            code,
        )
    )


def _reason(cell: Measurement | None) -> int:
    return 0 if cell is None else REASONS.index(cell.absent or Absent.UNKNOWN)


def _runs(marks: Sequence[int | None], *, with_value: bool) -> bytes:
    """Runs of equal marks that are not None."""
    found: list[tuple[int, int, int]] = []
    for at, mark in enumerate(marks):
        if mark is None:
            continue
        if found and found[-1][0] + found[-1][1] == at and found[-1][2] == mark:
            found[-1] = (found[-1][0], found[-1][1] + 1, mark)
        else:
            found.append((at, 1, mark))
    out, end = [_varint(len(found))], 0
    for at, length, mark in found:
        out += [_varint(at - end), _varint(length), *([_varint(mark)] if with_value else [])]
        end = at + length
    return b"".join(out)


def unpack(blob: bytes) -> Samples:
    """The samples back. ReadingError (``reading-malformed``) for every blob that is none."""
    if len(blob) > MAX_BLOB_BYTES:
        raise ReadingError(f"a series of {len(blob)} bytes; at most {MAX_BLOB_BYTES}")
    reader = _Reader(blob)
    step, count = reader.number(1, MAX_STEP_MS), reader.number(1, MAX_SAMPLES)
    rows: list[list[Measurement]] = [[] for _ in range(count)]
    before = -1
    for _ in range(reader.number(0, len(PARAMETERS))):
        before = number = reader.number(before + 1, len(PARAMETERS) - 1)
        for row, cell in zip(rows, _cells(reader, PARAMETERS[number], count), strict=True):
            row.extend(cell)
    reader.end()
    return Samples(step, tuple(map(tuple, rows)))


def _cells(reader: _Reader, parameter: Parameter, count: int) -> Iterator[tuple[Measurement, ...]]:
    scale, rice = reader.number(1, 10), reader.number(0, _MAX_RICE)
    missing = _marks(reader, count, with_value=True)
    poor = _marks(reader, count, with_value=False)
    value = _unzigzag(reader.number(0, _MAX_NUMBER))
    code = reader.take(reader.number(0, MAX_BLOB_BYTES))
    steps = iter([0, *_unrice(code, rice, max(0, count - len(missing) - 1))])
    for at in range(count):
        quality = Quality.POOR if at in poor else Quality.GOOD
        if at not in missing:
            value += _unzigzag(next(steps))
            yield (Measurement(parameter=parameter, value=value / scale, quality=quality),)
        elif (reason := REASONS[missing[at]]) is not None:
            yield (Measurement(parameter=parameter, absent=reason, quality=quality),)
        else:
            yield ()


def _marks(reader: _Reader, count: int, *, with_value: bool) -> dict[int, int]:
    found: dict[int, int] = {}
    at = 0
    for _ in range(reader.number(0, count)):
        at += reader.number(0, count)
        length = reader.number(1, count)
        mark = reader.number(0, len(REASONS) - 1) if with_value else 1
        if at + length > count:
            raise ReadingError("a series speaks of more samples than it has")
        found |= dict.fromkeys(range(at, at + length), mark)
        at += length
    return found


# -- the record


class VitalsSeries(Body, frozen=True, kw_only=True):
    """What a device measured of one patient at equal steps, a minute of it at a time.

    The corrected time of sample n is ``corrected_ms`` + n steps; the device's own is ``offset_ms``
    before it. ``samples`` is a blob of columns (docs/vitals.md).
    """

    patient_id: str
    device_id: str
    received_ms: Milliseconds
    corrected_ms: Milliseconds
    offset_ms: int = 0
    clock: ClockMark = ClockMark.BOX
    samples: bytes


def readings(identity: bytes, body: VitalsSeries) -> Iterator[tuple[str, VitalsReading]]:
    """The id and the reading of each sample that says something; ReadingError if it cannot be read.

    Ids follow from the record's, so that a record that is applied again changes nothing.
    """
    samples = unpack(body.samples)
    for at, row in enumerate(samples.rows):
        if not row:
            continue
        when = body.corrected_ms + at * samples.step_ms
        digest = hashlib.sha256(identity + at.to_bytes(2, "big")).digest()
        yield (
            uuid7(when, digest[:10]).hex(),
            VitalsReading(
                patient_id=body.patient_id,
                device_id=body.device_id,
                measurements=row,
                device_ms=when - body.offset_ms,
                sent_ms=body.received_ms - body.offset_ms,
                received_ms=body.received_ms,
                corrected_ms=when,
                offset_ms=body.offset_ms,
                clock=body.clock,
            ),
        )


KINDS: Final[dict[str, dict[int, type[Body]]]] = {"vitals.series": {1: VitalsSeries}}
