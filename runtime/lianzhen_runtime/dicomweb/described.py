"""A file as DICOMweb speaks of it: its DICOM JSON (PS3.18, F), and where its bulk data lie.

Text goes through the ladder of ``dicomtext`` and is split after it is decoded. What is large or
binary is left where it is, and named by an address that ``with_addresses`` makes whole.
"""

import base64
import math
import struct
import zlib
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec

from lianzhen_protocol.dicomset import BIG_ENDIAN, DEFLATED, PIXELS
from lianzhen_protocol.dicomtext import decode

from .dataset import DataSet, Element, read
from .frames import Layout, layout

Json = dict[str, Any]

CHARSET: Final = 0x00080005
AVAILABLE_SYNTAX: Final = "00083002"
_UTF_8: Final = "ISO_IR 192"
_INLINE_BYTES: Final = 512
_LONGEST: Final = 64 << 10
"""Bytes of numbers or text that are written out."""
_SCHEME: Final = "lz:"
_MARK: Final = f'"BulkDataURI":"{_SCHEME}'.encode()

_NUMBERS: Final = {
    "US": "H",
    "SS": "h",
    "UL": "L",
    "SL": "l",
    "UV": "Q",
    "SV": "q",
    "FL": "f",
    "FD": "d",
}
_ONE: Final = frozenset({"ST", "LT", "UT", "UR"})
_PLAIN: Final = frozenset({"AE", "AS", "CS", "DA", "DT", "TM", "UI"})
_WORDS: Final = {"OW": 2, "OF": 4, "OL": 4, "OD": 8, "OV": 8} | {
    vr: struct.calcsize(f"<{code}") for vr, code in _NUMBERS.items()
}
"""Bytes that change their order together."""


class Bulk(msgspec.Struct, frozen=True, array_like=True):
    """Where a value lies in the file, or in what it inflates to."""

    begin: int
    length: int
    word: int
    """Bytes that are to be turned round; 1: none."""


class Description(msgspec.Struct, frozen=True):
    """All that is kept of an image to answer for it without reading it again."""

    transfer_syntax: str
    packed: bytes
    """Its DICOM JSON, an object, deflated; addresses of bulk data are not whole."""
    bulk: dict[str, Bulk]
    """By path: tags, and between them the number of an item."""
    layout: Layout | None
    """Of its pixels; None: it has none."""

    def json(self) -> bytes:
        """The object as text."""
        return zlib.decompress(self.packed)

    def attributes(self) -> Json:
        """The object."""
        found: Json = msgspec.json.decode(self.json())
        return found

    @property
    def deflated(self) -> bool:
        """Whether places are in what the file inflates to, and not in itself."""
        return self.transfer_syntax == DEFLATED

    @property
    def weight(self) -> int:
        """Bytes of memory, nearly."""
        frames = len(self.layout.frames) * 100 if self.layout else 0
        return len(self.packed) + 200 * len(self.bulk) + frames + 500


def describe(file: bytes) -> Description:
    """Of a Part 10 file; DataSetUnreadable."""
    return described(read(file))


def described(found: DataSet) -> Description:
    """Of what was read."""
    writer = _Writer(found)
    attributes = writer.object(found.elements, b"", "")
    if CHARSET in {one.tag for one in found.elements} or writer.wide:
        attributes["00080005"] = {"vr": "CS", "Value": [_UTF_8]}
    attributes[AVAILABLE_SYNTAX] = {"vr": "UI", "Value": [found.transfer_syntax]}
    text = msgspec.json.encode(dict(sorted(attributes.items())))
    return Description(
        found.transfer_syntax,
        zlib.compress(text, 6),
        writer.bulk,
        layout(found),
    )


def with_addresses(text: bytes, instance: str) -> bytes:
    """Make addresses of bulk data whole; ``instance`` is the address of their image.

    The mark cannot be within a value: there its quotes are escaped.
    """
    address = msgspec.json.encode(f"{instance}/bulkdata/")[:-1]
    return text.replace(_MARK, b'"BulkDataURI":' + address)


class _Name(NamedTuple):
    tag: str
    path: str


class _Writer:
    def __init__(self, found: DataSet) -> None:
        self._data = found.data
        self._order = ">" if found.transfer_syntax == BIG_ENDIAN else "<"
        self.bulk: dict[str, Bulk] = {}
        self.wide = False
        """Whether there was text beyond ASCII."""

    def object(self, elements: Sequence[Element], charset: bytes, path: str) -> Json:
        """A data set or an item of one; it has its enclosing one's character set, or its own."""
        own = next((self._raw(one) for one in elements if one.tag == CHARSET), charset)
        found: Json = {}
        for element in elements:
            if element.tag & 0xFFFF and element.tag >> 16 > 0x0002:
                tag = f"{element.tag:08X}"
                found[tag] = self._attribute(element, own, _Name(tag, f"{path}{tag}"))
        if path and CHARSET in (one.tag for one in elements):
            found["00080005"] = {"vr": "CS", "Value": [_UTF_8]}
        return found

    def _raw(self, element: Element) -> bytes:
        return self._data[element.begin : element.begin + element.length]

    def _attribute(self, element: Element, charset: bytes, name: _Name) -> Json:
        vr = element.vr
        if element.items is not None:
            items = [
                self.object(item, charset, f"{name.path}/{number}/")
                for number, item in enumerate(element.items)
            ]
            return {"vr": "SQ", "Value": items} if items else {"vr": "SQ"}
        if element.length == 0:
            return {"vr": vr}
        if self._is_bulk(element):
            word = _WORDS.get(vr, 1) if self._order == ">" else 1
            self.bulk[name.path] = Bulk(element.begin, element.length, word)
            return {"vr": vr, "BulkDataURI": _SCHEME + name.path}
        values = self._values(vr, self._raw(element), charset)
        if isinstance(values, str):
            return {"vr": vr, "InlineBinary": values}
        return {"vr": vr, "Value": values} if values else {"vr": vr}

    @staticmethod
    def _is_bulk(element: Element) -> bool:
        if element.tag == PIXELS or element.fragments is not None:
            return True
        written_out = element.vr in _NUMBERS or element.vr in _ONE or element.vr in _TEXTS
        return element.length > (_LONGEST if written_out else _INLINE_BYTES)

    def _values(self, vr: str, raw: bytes, charset: bytes) -> list[Any] | str:
        if (code := _NUMBERS.get(vr)) is not None:
            return self._numbers(code, raw)
        if vr == "AT":
            numbers = self._numbers("H", raw)
            return [f"{a:04X}{b:04X}" for a, b in zip(numbers[::2], numbers[1::2], strict=False)]
        if vr not in _TEXTS and vr not in _ONE:
            word = _WORDS.get(vr, 1) if self._order == ">" else 1
            return base64.b64encode(turned(raw, word)).decode()
        if vr in _ONE:
            text = "\r\n".join(
                self._text(line, charset).rstrip() for line in raw.replace(b"\r", b"").split(b"\n")
            ).rstrip("\0 \r\n")
            return [text] if text else []
        text = self._text(raw, b"" if vr in _PLAIN else charset)
        values = [_value(vr, one.strip("\0 ")) for one in text.split("\\")]
        return [] if all(one is None for one in values) else values

    def _text(self, raw: bytes, charset: bytes) -> str:
        if raw.isascii() and b"\x1b" not in raw:
            return raw.decode("ascii").rstrip("\0 ")
        self.wide = True
        return decode(raw, charset).text

    def _numbers(self, code: str, raw: bytes) -> list[Any]:
        count = len(raw) // struct.calcsize(f"<{code}")
        values = struct.unpack_from(f"{self._order}{count}{code}", raw)
        if code in "fd":
            return [one if math.isfinite(one) else _not_finite(one) for one in values]
        return list(values)


_TEXTS: Final = frozenset({"AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "PN", "SH", "TM"}) | {
    "UC",
    "UI",
}


def _not_finite(number: float) -> str:
    """JSON has no such numbers."""
    return "NaN" if math.isnan(number) else ("Infinity" if number > 0 else "-Infinity")


def _value(vr: str, text: str) -> Any:
    """One value; None for an empty one."""
    if not text:
        return None
    if vr == "PN":
        groups = zip(("Alphabetic", "Ideographic", "Phonetic"), text.split("="), strict=False)
        return {group: name for group, name in groups if name} or None
    if vr in ("IS", "DS"):
        return _number(vr, text)
    return text


def _number(vr: str, text: str) -> Any:
    try:
        number: float = int(text) if vr == "IS" and len(text) <= 12 else float(text)
    except ValueError:
        return text  # as it was sent: better read by a person than lost
    return number if math.isfinite(number) else text


def turned(raw: bytes, word: int) -> bytes:
    """Little-endian, whatever it was."""
    if word == 1:
        return raw
    whole = bytearray(raw)
    for at in range(word):
        whole[at : len(raw) // word * word : word] = raw[word - 1 - at :: word][: len(raw) // word]
    return bytes(whole)
