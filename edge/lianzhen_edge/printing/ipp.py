"""The Internet Printing Protocol's encoding (RFC 8010), as far as a print job needs it.

A message is a code (operation or status) and groups of attributes; an attribute is a name, a
value tag and values. Values are text, integers, booleans or, where a tag says nothing to us,
raw bytes, which are kept.
"""

import struct
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from lianzhen_runtime.errors import LianzhenError

VERSION: Final = b"\x02\x00"
OPERATION, JOB, END, PRINTER = 0x01, 0x02, 0x03, 0x04
INTEGER, BOOLEAN, ENUM = 0x21, 0x22, 0x23
TEXT, NAME, KEYWORD, URI, CHARSET, LANGUAGE, MIME = 0x41, 0x42, 0x44, 0x45, 0x47, 0x48, 0x49

_FIRST_VALUE_TAG: Final = 0x10
_NUMBERS: Final = frozenset({INTEGER, ENUM})
_TEXTS: Final = frozenset({TEXT, NAME, KEYWORD, URI, CHARSET, LANGUAGE, MIME})
_WITH_LANGUAGE: Final = frozenset({0x35, 0x36})
_HEADER: Final = struct.Struct(">2sHi")
_SUCCESS_BELOW: Final = 0x0100

Value = str | int | bool | bytes


class IppError(LianzhenError):
    """The print server says no, or not what IPP says."""

    code = "print-refused"
    http_status = 502

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class Attribute(NamedTuple):
    """A name with values of one tag."""

    name: str
    tag: int
    values: tuple[Value, ...]


Group = tuple[int, Sequence[Attribute]]


class Answer(NamedTuple):
    """A response: its status, and the groups as they came."""

    status: int
    groups: list[tuple[int, dict[str, tuple[Value, ...]]]]

    @property
    def good(self) -> bool:
        """One of the successful status codes."""
        return self.status < _SUCCESS_BELOW

    def of(self, tag: int) -> list[dict[str, tuple[Value, ...]]]:
        """The groups with this tag: jobs, or a printer."""
        return [found for group, found in self.groups if group == tag]

    def message(self) -> str:
        """What the server says about its status."""
        for found in self.of(OPERATION):
            if said := found.get("status-message"):
                return str(said[0])
        return ""


def request(operation: int, number: int, groups: Sequence[Group], data: bytes = b"") -> bytes:
    """A request's bytes; ``data`` is the document."""
    parts = [_HEADER.pack(VERSION, operation, number)]
    for tag, attributes in groups:
        parts.append(bytes([tag]))
        parts += (_attribute(found) for found in attributes)
    return b"".join([*parts, bytes([END]), data])


def answer(raw: bytes) -> Answer:
    """A response; IppError for what is none."""
    try:
        _, status, _ = _HEADER.unpack_from(raw)
        groups: list[tuple[int, dict[str, tuple[Value, ...]]]] = []
        name = ""
        for tag, label, value in _fields(raw, _HEADER.size):
            if tag < _FIRST_VALUE_TAG:
                groups.append((tag, {}))
                continue
            name = label or name
            found = groups[-1][1]
            found[name] = (*found.get(name, ()), _value(tag, value))
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise IppError("the print server's answer is not IPP") from error
    return Answer(status, groups)


def _attribute(found: Attribute) -> bytes:
    parts, name = [], found.name.encode()
    for value in found.values:
        raw = _raw(found.tag, value)
        parts.append(struct.pack(">BH", found.tag, len(name)) + name)
        parts.append(struct.pack(">H", len(raw)) + raw)
        name = b""  # a further value has no name
    return b"".join(parts)


def _raw(tag: int, value: Value) -> bytes:
    match value:
        case bool():
            return bytes([value])
        case int():
            return struct.pack(">i", value)
        case str():
            return value.encode()
        case bytes():
            return value


def _fields(raw: bytes, at: int) -> Iterator[tuple[int, str, bytes]]:
    """(tag, name, value) one by one; delimiters have neither name nor value."""
    while (tag := raw[at]) != END:
        at += 1
        if tag < _FIRST_VALUE_TAG:
            yield tag, "", b""
            continue
        name, at = _counted(raw, at)
        value, at = _counted(raw, at)
        yield tag, name.decode(), value


def _counted(raw: bytes, at: int) -> tuple[bytes, int]:
    (length,) = struct.unpack_from(">H", raw, at)
    end = at + 2 + length
    if end > len(raw):
        raise IndexError("cut off")
    return raw[at + 2 : end], end


def _value(tag: int, raw: bytes) -> Value:
    if tag in _NUMBERS:
        return int(struct.unpack(">i", raw)[0])
    if tag == BOOLEAN:
        return raw != b"\0"
    if tag in _TEXTS:
        return raw.decode()
    if tag in _WITH_LANGUAGE:
        _, at = _counted(raw, 0)
        text, _ = _counted(raw, at)
        return text.decode()
    return raw
