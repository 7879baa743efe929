"""Measurements out of a Structured Report: every NUM item of its content tree, with its unit.

Of any template that is a tree of containers (PS3.3, C.17.3; ultrasound's are TID 5000, 5100, 5200
and their like, PS3.16): what the containers around a number are called, and what modifies them, is
where it belongs. Depth, nodes and rows are bounded. Text is read from raw bytes (``dicomtext``).
"""

import io
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

import msgspec

from lianzhen_protocol.dicomtext import decode
from lianzhen_protocol.imaging import Instance

MAX_DEPTH: Final = 16
MAX_NODES: Final = 20_000
MAX_ROWS: Final = 2000
MAX_BYTES: Final = 16 << 20
_MAX_TEXT: Final = 200
_MAX_REPORTS: Final = 4

_RELATION, _CONTENT = 0x0040A010, 0x0040A730
_CODE, _LONG_CODE, _MEANING = 0x00080100, 0x00080119, 0x00080104
_TYPE, _CONCEPT, _CODED, _TEXT = 0x0040A040, 0x0040A043, 0x0040A168, 0x0040A160
_MEASURED, _NUMBER, _UNITS = 0x0040A300, 0x0040A30A, 0x004008EA
_NO_UNIT: Final = "1"


class NoMeasurements(ValueError):
    """It is no Structured Report that can be read; the text says why in a word or two."""


class Measurement(msgspec.Struct, frozen=True, kw_only=True):
    """A number as it was measured or calculated."""

    where: str
    """Sections and sites that it stands in, from the outside in."""
    name: str
    value: str
    """As it was sent: a decimal string, or several by a backslash."""
    unit: str
    """UCUM, as sent; empty for a plain number."""
    how: str
    """What modifies it: derivation, method, selection."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A Structured Report as a page shows it; ``rows`` None where it cannot be read here."""

    title: str
    rows: list[Measurement] | None


def reports_of(images: Iterable[Instance]) -> list[Instance]:
    """The Structured Reports of a study that are shown."""
    return [image for image in images if image.is_report][:_MAX_REPORTS]


def read_measurements(file: bytes) -> list[Measurement]:
    """Of a Part 10 file, in the order of its tree; NoMeasurements."""
    from pydicom import dcmread

    if len(file) > MAX_BYTES:
        raise NoMeasurements("too large")
    report = dcmread(io.BytesIO(file))
    if _CONTENT not in report:
        raise NoMeasurements("no content tree")
    reader = _Reader(_charset(report))
    return list(reader.rows(report, (), 0))


class _Child(NamedTuple):
    item: Any
    relation: str
    kind: str


class _Reader:
    def __init__(self, charset: bytes) -> None:
        self._charset = charset
        self._nodes = self._rows = 0

    def rows(self, container: Any, where: tuple[str, ...], depth: int) -> Iterator[Measurement]:
        """Every number below a container."""
        if depth > MAX_DEPTH:
            raise NoMeasurements("nested too deep")
        children = self._children(container)
        where += tuple(self._modifiers(children))
        for child in children:
            if child.kind == "NUM":
                yield self._number(child.item, where)
            if child.kind != "NUM" and _CONTENT in child.item:
                name = self._meaning(child.item, _CONCEPT)
                yield from self.rows(child.item, (*where, name) if name else where, depth + 1)

    def _children(self, item: Any) -> list[_Child]:
        found = list(item[_CONTENT].value) if _CONTENT in item else []
        self._nodes += len(found)
        if self._nodes > MAX_NODES:
            raise NoMeasurements("too many items")
        return [_Child(one, self._text(one, _RELATION), self._text(one, _TYPE)) for one in found]

    def _number(self, item: Any, where: tuple[str, ...]) -> Measurement:
        self._rows += 1
        if self._rows > MAX_ROWS:
            raise NoMeasurements("too many measurements")
        measured = _first(item, _MEASURED)
        unit = self._code(_first(measured, _UNITS)) if measured is not None else ""
        return Measurement(
            where=" › ".join(where),
            name=self._meaning(item, _CONCEPT),
            value=self._text(measured, _NUMBER) if measured is not None else "",
            unit="" if unit == _NO_UNIT else unit,
            how=", ".join(self._modifiers(self._children(item))),
        )

    def _modifiers(self, children: list[_Child]) -> Iterator[str]:
        """What HAS CONCEPT MOD says, in words."""
        for child in children:
            if child.relation != "HAS CONCEPT MOD":
                continue
            if child.kind == "CODE":
                yield self._meaning(child.item, _CODED)
            elif child.kind == "TEXT":
                yield self._text(child.item, _TEXT)

    def _meaning(self, item: Any, tag: int) -> str:
        code = _first(item, tag)
        return self._text(code, _MEANING) or self._code(code) if code is not None else ""

    def _code(self, code: Any) -> str:
        if code is None:
            return ""
        return self._text(code, _CODE) or self._text(code, _LONG_CODE)

    def _text(self, item: Any, tag: int) -> str:
        return decode(_raw(item, tag), self._charset).text[:_MAX_TEXT]


def _first(item: Any, tag: int) -> Any:
    """The first item of a sequence, if there is one."""
    found = item[tag].value if tag in item else None
    return found[0] if found else None


def _charset(report: Any) -> bytes:
    """Specific Character Set, which pydicom has read already."""
    found = report.get("SpecificCharacterSet") or ""
    return ("\\".join([found] if isinstance(found, str) else found)).encode("ascii", "replace")


def _raw(item: Any, tag: int) -> bytes:
    """A value's own bytes, before pydicom reads them."""
    found = item.get_item(tag) if tag in item else None
    return found.value if found is not None and isinstance(found.value, bytes) else b""
