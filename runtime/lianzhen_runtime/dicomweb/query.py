"""What a QIDO-RS search asks for (PS3.18, 8.3.4), and whether attributes match (PS3.4, C.2.2.2).

Attributes are DICOM JSON. Bounded: so many parameters, so long a value, so many results.
"""

import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, Final, NamedTuple

from pydicom.datadict import dictionary_VR, tag_for_keyword

from lianzhen_protocol.dicomset import RANGES, WILD, like
from lianzhen_runtime.errors import LianzhenError

Json = Mapping[str, Any]

MOST_PARAMETERS: Final = 64
MOST_CHARACTERS: Final = 1024
ALL: Final = "all"
NOT_FUZZY: Final = (
    '299 Lianzhen: "The fuzzymatching parameter is not supported. '
    'Only literal matching has been performed."'
)
NOT_ALL: Final = (
    '299 Lianzhen: "The number of results exceeded the maximum supported by the server. '
    'Additional results can be requested."'
)
_TAG: Final = re.compile(r"[0-9A-Fa-f]{8}")
_NUMBER: Final = re.compile(r"[0-9]{1,9}")


class QueryUnfit(LianzhenError):
    """A search that cannot be understood; the text says which part of it."""

    code = "query-malformed"
    http_status = 400


class Match(NamedTuple):
    """An attribute, or one within sequences, and what it is to be. "" is anything."""

    path: tuple[str, ...]
    vr: str
    value: str


class Query(NamedTuple):
    """A search."""

    matches: tuple[Match, ...]
    include: frozenset[str]
    """Tags; or ``all``."""
    limit: int | None
    offset: int
    fuzzy: bool

    def uids(self, tag: str) -> list[str]:
        """The UIDs that an attribute is to have one of; none if any will do."""
        found = [match.value for match in self.matches if match.path == (tag,)]
        return _list(found[0]) if found and found[0] else []

    def wants(self, tag: str) -> bool:
        """Whether an attribute is asked for beside those that always come."""
        return (
            ALL in self.include or tag in self.include or tag in {m.path[0] for m in self.matches}
        )


def parse(parameters: Iterable[tuple[str, str]]) -> Query:
    """Names and values as they stand behind the question mark; QueryUnfit."""
    matches: list[Match] = []
    include: set[str] = set()
    limit, offset, fuzzy = None, 0, False
    for number, (name, value) in enumerate(parameters):
        if number >= MOST_PARAMETERS or len(value) > MOST_CHARACTERS or len(name) > 200:
            raise QueryUnfit("a search with too much in it")
        match name.lower():
            case "limit":
                limit = _number(name, value)
            case "offset":
                offset = _number(name, value)
            case "fuzzymatching":
                fuzzy = value.lower() == "true"
            case "includefield":
                include.update(_field(one) for one in value.split(",") if one)
            case "accept":
                continue  # PS3.18, 8.3.3.1; the header counts
            case _:
                matches.append(_match(name, value))
    return Query(tuple(matches), frozenset(include), limit, offset, fuzzy)


def _number(name: str, value: str) -> int:
    if not _NUMBER.fullmatch(value):
        raise QueryUnfit(f"{name} is a number")
    return int(value)


def _field(text: str) -> str:
    return ALL if text.lower() == ALL else ".".join(_path(text)[:1])


def _path(text: str) -> tuple[str, ...]:
    parts = text.split(".")
    if len(parts) > 4:
        raise QueryUnfit("an attribute too deep within sequences")
    return tuple(map(_tag, parts))


@cache
def _known(text: str) -> str:
    tag = tag_for_keyword(text)
    return "" if tag is None else f"{tag:08X}"


def _tag(text: str) -> str:
    if _TAG.fullmatch(text):
        return text.upper()
    found = _known(text) if text.isascii() and text.isalnum() and len(text) <= 64 else ""
    if not found:
        raise QueryUnfit("a search for an attribute that DICOM does not know")
    return found


def _match(name: str, value: str) -> Match:
    path = _path(name)
    try:
        vr = dictionary_VR(int(path[-1], 16))
    except KeyError:
        vr = "UN"
    return Match(path, vr, value.strip())


def matches(attributes: Json, wanted: Iterable[Match]) -> bool:
    """Whether attributes are as they are all wanted."""
    return all(_one_matches(attributes, match, 0) for match in wanted)


def _one_matches(attributes: Json, match: Match, depth: int) -> bool:
    values = attributes.get(match.path[depth], {}).get("Value", [])
    if depth + 1 < len(match.path):
        items = [item for item in values if isinstance(item, dict)]
        return any(_one_matches(item, match, depth + 1) for item in items)
    if not match.value or set(match.value) == {"*"}:
        return True
    return any(_fits(match, text) for value in values for text in _texts(value))


def _texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [str(text) for text in value.values()]
    if isinstance(value, float) and value.is_integer():
        return [str(int(value))]
    return [] if value is None else [str(value)]


def _fits(match: Match, text: str) -> bool:
    if match.vr == "UI":
        return text in _list(match.value)
    if match.vr in RANGES and "-" in match.value:
        return _within(match.value, text)
    if match.vr in WILD:
        wanted, text = match.value, text.strip()
        if match.vr == "PN":
            wanted, text = wanted.casefold(), text.casefold()
        return like(wanted, text)
    return text.strip() == match.value


def _list(value: str) -> list[str]:
    return [one.strip() for one in re.split(r"[,\\]", value) if one.strip()]


def _within(value: str, text: str) -> bool:
    """From first to last, each of them too; one may be left out. A shorter one stands for all that
    begin with it: 20261124-2026 ends with the year."""
    first, _, last = value.partition("-")
    first, last, text = first.strip(), last.strip(), text.strip()
    return bool(text) and text[: len(first)] >= first and (not last or text[: len(last)] <= last)
