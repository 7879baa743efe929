"""What a C-FIND asks, and what matches it (PS3.4, C.2.2.2 and K.2.2.1).

A query and everything that may answer it are plain attributes by tag: text as it stands in the
element, values parted by a backslash; or items, for a sequence. No I/O.

pydicom comes with the first question: it takes more memory than all that receives images.
"""

import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

from lianzhen_protocol import dicomtext
from lianzhen_protocol.dicomset import RANGES, WILD, DeflatedBroken, inflated, like

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

Value: TypeAlias = "str | Sequence[Attributes]"
Attributes: TypeAlias = Mapping[int, Value]

CHARSET: Final = 0x00080005
UTF_8: Final = "ISO_IR 192"
_OFFERED: Final = {"GB18030": "gb18030", "GBK": "gbk", UTF_8: "utf-8"}
"""Sets that are answered in, if they are asked for and can say it."""

MAX_PLAIN_BYTES: Final = 4 << 20
_MAX_DEPTH: Final = 4
_MAX_KEYS: Final = 200
_TEXTS: Final = frozenset(
    {"AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN"}
    | {"SH", "ST", "TM", "UC", "UI", "UR", "UT"}
)
_LENGTH: Final = {"DA": 8, "TM": 13, "DT": 26}


class QueryBroken(ValueError):
    """Not a data set that can be asked with; the text says why."""


# -- from bytes and back


def read(data: bytes, transfer_syntax: str) -> Attributes:
    """The attributes of a data set as it was sent; QueryBroken if it is none, or has no end."""
    from pydicom.dataelem import RawDataElement
    from pydicom.uid import UID
    from pynetdicom.dsutils import decode as read_set

    syntax = UID(transfer_syntax)
    if syntax.is_deflated:
        try:
            data = inflated(data, MAX_PLAIN_BYTES)
        except DeflatedBroken as error:
            raise QueryBroken(str(error)) from error
    try:
        found = read_set(io.BytesIO(data), syntax.is_implicit_VR, syntax.is_little_endian)
        raw = found.get_item(CHARSET)
        charset = raw.value if isinstance(raw, RawDataElement) and raw.value else b""
        return _attributes(found, charset, 0)
    except QueryBroken:
        raise
    except Exception as error:  # the library raises whatever it stumbled upon
        raise QueryBroken("not a data set in its transfer syntax") from error


def _attributes(found: "Dataset", charset: bytes, depth: int) -> dict[int, Value]:
    from pydicom.dataelem import RawDataElement

    if depth > _MAX_DEPTH or len(found) > _MAX_KEYS:
        raise QueryBroken("more than a query can be made of")
    made: dict[int, Value] = {}
    for tag in found.keys():  # noqa: SIM118 - a data set gives its elements, converted
        vr = _vr(int(tag))
        if not vr or tag.element == 0:
            continue
        if vr == "SQ":
            items = found[tag].value or ()
            made[int(tag)] = [_attributes(item, charset, depth + 1) for item in items]
        else:
            raw = found.get_item(tag) if vr in _TEXTS else None
            content = raw.value if isinstance(raw, RawDataElement) else None
            made[int(tag)] = dicomtext.decode(content or b"", charset).text
    return made


def _vr(tag: int) -> str:
    """VR by the dictionary; "" for what it does not have: private, or no element of ours."""
    from pydicom.datadict import dictionary_VR

    try:
        return dictionary_VR(tag)
    except KeyError:
        return ""


def write(answer: Attributes, transfer_syntax: str, asked: str = "") -> bytes:
    """The data set of an answer, in the character set ``asked`` for if we can, else in UTF-8."""
    charset = asked if asked in _OFFERED and _says(answer, _OFFERED[asked]) else UTF_8
    found = dataset(answer)
    found.SpecificCharacterSet = charset
    return encoded(found, transfer_syntax)


def encoded(found: "Dataset", transfer_syntax: str) -> bytes:
    """Its bytes; ValueError if it has none."""
    from pydicom.uid import UID
    from pynetdicom.dsutils import encode as write_set

    syntax = UID(transfer_syntax)
    made = write_set(
        found, syntax.is_implicit_VR, syntax.is_little_endian, deflated=syntax.is_deflated
    )
    if made is None:
        raise ValueError("an answer that cannot be encoded")
    return made


def _says(answer: Attributes, codec: str) -> bool:
    for value in answer.values():
        if not isinstance(value, str):
            if not all(_says(item, codec) for item in value):
                return False
            continue
        try:
            value.encode(codec)
        except UnicodeEncodeError:
            return False
    return True


def dataset(answer: Attributes) -> "Dataset":
    """The same as a pydicom data set."""
    from pydicom.datadict import dictionary_VR
    from pydicom.dataset import Dataset

    found = Dataset()
    for tag, value in answer.items():
        if tag == CHARSET:
            continue
        vr = dictionary_VR(tag)
        if isinstance(value, str):
            parts = value.split("\\") if "\\" in value and vr not in _ONE_TEXT else value
            found.add_new(tag, vr, _numbers(vr, parts))
        else:
            found.add_new(tag, vr, [dataset(item) for item in value])
    return found


_ONE_TEXT: Final = frozenset({"LT", "ST", "UR", "UT"})


def _numbers(vr: str, value: str | list[str]) -> str | int | list[str] | None:
    """What pydicom wants for the few binary numbers that are answered."""
    if vr in ("US", "UL"):
        return int(value) if isinstance(value, str) and value.isdigit() else None
    return value


# -- matching


def matches(query: Attributes, candidate: Attributes) -> bool:
    """Whether every key of the query matches (PS3.4, C.2.2.2)."""
    return all(_one(tag, key, candidate.get(tag, "")) for tag, key in query.items())


def _one(tag: int, key: Value, value: Value) -> bool:
    if tag == CHARSET:
        return True
    if not isinstance(key, str):
        return _sequence(key, value)
    if not key or key.strip("*") == "":
        return True
    if not isinstance(value, str):
        return False
    return _text(_vr(tag), key, value)


def _sequence(keys: Sequence[Attributes], value: Value) -> bool:
    """At least one item of the candidate matches the query's one item."""
    if not keys or not any(_asks(key) for key in keys[0].values()):
        return True
    items = () if isinstance(value, str) else value
    return any(matches(keys[0], item) for item in items)


def _asks(key: Value) -> bool:
    if isinstance(key, str):
        return bool(key.strip("*"))
    return any(_asks(inner) for item in key for inner in item.values())


def _text(vr: str, key: str, value: str) -> bool:
    values = value.split("\\")
    if vr == "UI":
        return bool(set(key.split("\\")) & set(values))
    if vr in RANGES:
        return any(_in_range(vr, key, one) for one in values if one)
    return any(_same(vr, part, one) for part in key.split("\\") for one in values if one)


def _in_range(vr: str, key: str, value: str) -> bool:
    """Single value or range; a shorter time stands for all that begins with it."""
    low, dash, high = key.partition("-")
    clean: Callable[[str], str] = lambda text: re.sub(r"[:.]", "", text.strip())  # noqa: E731
    wanted = clean(value).ljust(_LENGTH[vr], "0")
    if not dash:
        return wanted.startswith(clean(low))
    first = clean(low).ljust(_LENGTH[vr], "0")
    last = clean(high).ljust(_LENGTH[vr], "9") if high.strip() else "9" * _LENGTH[vr]
    return first <= wanted <= last


def _same(vr: str, key: str, value: str) -> bool:
    """Single value, or wildcards where the VR may have them; names whatever their case."""
    key, value = key.strip(), value.strip()
    if vr == "PN":
        key, value = key.casefold().rstrip("^="), value.casefold()
        groups = [value.rstrip("^="), *(group.rstrip("^") for group in value.split("="))]
        return any(like(key, group) for group in groups)
    return like(key, value) if vr in WILD else key == value


# -- answers


def answer(query: Attributes, candidate: Attributes) -> Attributes:
    """What is said of a candidate: the attributes that were asked for, empty where unknown."""
    made: dict[int, Value] = {}
    for tag, key in query.items():
        known = candidate.get(tag, "")
        if isinstance(key, str):
            made[tag] = known if isinstance(known, str) else ""
        elif isinstance(known, str):
            made[tag] = []
        else:
            made[tag] = [answer(key[0], item) if key and key[0] else item for item in known]
    return made


def text(found: Attributes, tag: int) -> str:
    """A text of a query or an answer; "" if there is none."""
    value = found.get(tag, "")
    return value if isinstance(value, str) else ""


def name(tag: int) -> str:
    """Keyword of a tag, for what is said to people."""
    from pydicom.datadict import keyword_for_tag

    return keyword_for_tag(tag) or f"{tag:08X}"
