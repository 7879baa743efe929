"""Writes docs/records.md: every kind of record and its fields, from the types themselves.

Run it after a change of a record's type: ``python tests/wire/make_records.py``.
"""

import enum
import inspect
from collections.abc import Iterator
from pathlib import Path

from msgspec import inspect as types

from lianzhen_protocol import kinds
from lianzhen_protocol.records import Body

PAGE = Path(__file__).parents[2] / "docs" / "records.md"
_HEAD = """# Records

Made by `python tests/wire/make_records.py` from the types in `protocol/`; what carries them is in
[protocol.md](protocol.md), 6. A body is a msgpack map of these fields; one with a default may be
missing, unknown ones are let through, and within a major version fields are only added. Types in
`code` that are not msgpack's own stand at the end.
"""
_PLAIN: dict[type[types.Type], str] = {
    types.AnyType: "anything",
    types.NoneType: "nil",
    types.BoolType: "bool",
    types.IntType: "int",
    types.FloatType: "float",
    types.StrType: "str",
    types.BytesType: "bin",
    types.DateType: "date, as str",
}
_MAX_INT = (1 << 63) - 1
_BOUNDS = {
    "ge": "from {}",
    "gt": "over {}",
    "le": "to {}",
    "lt": "under {}",
    "min_length": "length from {}",
    "max_length": "length to {}",
    "pattern": "as `{}`",
}


class _Namer:
    """Says types in words, and remembers which of ours it named."""

    def __init__(self) -> None:
        self.named: dict[str, type] = {}

    def words(self, of: types.Type) -> str:
        """A type, with its bounds."""
        match of:
            case types.Metadata(type=inner):
                return self.words(inner)
            case types.StructType(cls=ours) | types.NamedTupleType(cls=ours):
                return self._name(ours)
            case types.EnumType(cls=ours):
                return self._name(ours)
            case types.UnionType(types=parts):
                return " or ".join(self.words(part) for part in parts)
            case types.LiteralType(values=values):
                return " or ".join(f"`{value!r}`" for value in values)
            case types.DictType(key_type=key, value_type=value):
                return f"map of {self.words(key)} to {self.words(value)}{_bounds(of)}"
            case types.TupleType(item_types=parts):
                return f"array [{', '.join(self.words(part) for part in parts)}]"
            case types.ListType(item_type=item) | types.VarTupleType(item_type=item):
                return f"array of {self.words(item)}{_bounds(of)}"
            case types.CollectionType(item_type=item):
                return f"set of {self.words(item)}{_bounds(of)}"
            case types.CustomType(cls=ours):
                return f"`{ours.__name__}`"
            case _:
                return _PLAIN[type(of)] + _bounds(of)

    def _name(self, ours: type) -> str:
        known = self.named.setdefault(ours.__name__, ours)
        if known is ours:
            return f"`{ours.__name__}`"
        longer = f"{_module(ours)}.{ours.__name__}"
        self.named[longer] = ours
        return f"`{longer}`"


def page() -> str:
    """The whole text."""
    namer = _Namer()
    parts = [_HEAD]
    for kind, majors in sorted(kinds.KINDS.items()):
        for major, body in sorted(majors.items()):
            parts.append("\n".join(_record(namer, kind, major, body)))
    parts.append("# Types\n")
    told: set[str] = set()
    while left := sorted(namer.named.keys() - told):
        for name in left:
            told.add(name)
            parts.append("\n".join(_type(namer, name, namer.named[name])))
    return "\n".join(parts)


def _record(namer: _Namer, kind: str, major: int, body: type[Body]) -> Iterator[str]:
    yield f"## `{kind}` {major}\n"
    yield f"{_about(body)}\n"
    yield from _fields(namer, body)


def _type(namer: _Namer, name: str, ours: type) -> Iterator[str]:
    yield f"## {name}\n"
    yield f"{_about(ours)}\n"
    if issubclass(ours, enum.Enum):
        yield ", ".join(f"`{member.value}`" for member in ours) + "\n"
    else:
        yield from _fields(namer, ours)


def _fields(namer: _Namer, ours: type) -> Iterator[str]:
    found = types.type_info(ours)
    if not isinstance(found, types.StructType | types.NamedTupleType):
        raise TypeError(f"{ours} has no fields")
    tag = found.tag_field if isinstance(found, types.StructType) else None
    if not (found.fields or tag):
        return
    if isinstance(found, types.NamedTupleType) or found.array_like:
        yield "An array of these, in this order.\n"
    yield "| field | type | |"
    yield "|--|--|--|"
    if isinstance(found, types.StructType) and tag:
        yield f"| `{tag}` | `{found.tag}` | |"
    for field in found.fields:
        words = namer.words(field.type).replace("|", "\\|")
        yield f"| `{field.encode_name}` | {words} |{'' if field.required else ' may be missing'} |"
    yield ""


def _bounds(of: types.Type) -> str:
    said = [
        words.format("2^63 - 1" if value == _MAX_INT else value)
        for name, words in _BOUNDS.items()
        if (value := getattr(of, name, None)) is not None
    ]
    return f" ({', '.join(said)})" if said else ""


def _about(ours: type) -> str:
    own = ours.__dict__.get("__doc__")
    said = inspect.cleandoc(own).replace("``", "`") if own else ""
    return f"{said} (`protocol/{_module(ours)}.py`)".strip()


def _module(ours: type) -> str:
    return ours.__module__.rpartition(".")[2]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
