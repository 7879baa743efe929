"""Sheets: what the records of a patient, a study, a consultation come to, the same on both sides.

A sheet is a document that its owner keeps sealed; beside it lie four plain words to find it by,
which never say anything about a person. What must be found by a person's own data (an id number)
is found by a token: a keyed hash of it, under a key that never leaves the machine.

Whoever turns records into sheets works against ``Sheets`` and so runs on the box and at the hub
alike, inside the transaction of the record itself.
"""

import hashlib
import hmac
from collections.abc import Callable
from typing import ClassVar, NamedTuple, Protocol, TypeVar, cast

import msgspec

from .records import Body, Record


class Index(NamedTuple):
    """The plain words beside a sealed sheet."""

    key: str
    """Unique for the kind of sheet; an id, as a rule."""

    owner: str = ""
    """Key of what it belongs to: a patient's id, a study's."""

    state: str = ""
    """One short word of a closed set."""

    at_ms: int = 0
    """The time that it is ordered by, UTC."""


class Sheet(msgspec.Struct, frozen=True, kw_only=True):
    """Base of every sheet. Fields are only added, with defaults, as old sheets stay readable."""

    SHEET: ClassVar[str]
    """The kind's name as it is stored."""

    def index(self) -> Index:
        """What it is found by."""
        raise NotImplementedError

    def tokens(self) -> tuple[tuple[str, str], ...]:
        """(purpose, value) pairs that it may be found by as well; values are stored hashed."""
        return ()


S = TypeVar("S", bound=Sheet)


class Sheets(Protocol):
    """Sheets as of one transaction or snapshot."""

    def get(self, kind: type[S], key: str) -> S | None:
        """One sheet."""

    def put(self, sheet: Sheet) -> None:
        """Insert it, or replace the one with its key."""

    def delete(self, kind: type[Sheet], key: str) -> None:
        """Forget it, if it is there."""

    def find(
        self,
        kind: type[S],
        *,
        owner: str | None = None,
        state: str | None = None,
        since_ms: int | None = None,
        limit: int = 1000,
        newest: bool = False,
    ) -> list[S]:
        """Sheets by their plain words, in the order of their time."""

    def find_token(self, kind: type[S], purpose: str, value: str) -> list[S]:
        """Sheets that carry this token."""


def sheet_place(holder: str, kind: str, key: str) -> bytes:
    """Additional data of a sealed sheet: a blob that was moved to another row does not open."""
    return f"lz/1 sheet\0{holder}|{kind}|{key}".encode()


def token(key: bytes, kind: str, purpose: str, value: str) -> bytes:
    """HMAC-SHA-256 that a sheet is found by; ``key`` is 32 random bytes of this machine alone."""
    message = f"lz/1 token\0{kind}|{purpose}|{value}".encode()
    return hmac.new(key, message, hashlib.sha256).digest()


P = TypeVar("P")
B = TypeVar("B", bound=Body)


def means(
    kind: type[B], meaning: Callable[[P, Record, B], None]
) -> tuple[type[Body], Callable[[P, Record, Body], None]]:
    """An entry of a table of meanings: the table is asked by a body's exact type, so the narrow
    function is only ever given what it names.
    """
    return kind, cast("Callable[[P, Record, Body], None]", meaning)
