"""Sealed sheets over a table: everything but the SQL, which differs between box and hub."""

from collections.abc import Iterable
from typing import NamedTuple, TypeVar

import msgspec

from lianzhen_protocol.errors import SealBroken
from lianzhen_protocol.sheets import Index, Sheet

S = TypeVar("S", bound=Sheet)
_encoder = msgspec.msgpack.Encoder()


class Wanted(NamedTuple):
    """What ``find`` was asked for; None stands for anything."""

    owner: str | None
    state: str | None
    since_ms: int | None
    limit: int
    newest: bool


Rows = Iterable[tuple[str, bytes]]
"""(key, sealed) pairs."""


class SealedSheets:
    """``lianzhen_protocol.sheets.Sheets`` for who supplies the underscored statements."""

    def __init__(self) -> None:
        self.changed: set[tuple[str, str]] = set()
        """(kind, key) of what was put or deleted."""

    def get(self, kind: type[S], key: str) -> S | None:
        """One sheet; SealBroken if the disk changed it."""
        sealed = self._fetch(kind.SHEET, key)
        return None if sealed is None else self._opened(kind, key, sealed)

    def put(self, sheet: Sheet) -> None:
        """Insert it, or replace the one with its key."""
        index = sheet.index()
        tokens = [self._token(sheet.SHEET, *pair) for pair in sheet.tokens()]
        sealed = self._seal(sheet.SHEET, index.key, _encoder.encode(sheet))
        self._store(sheet.SHEET, index, sealed, tokens)
        self.changed.add((sheet.SHEET, index.key))

    def delete(self, kind: type[Sheet], key: str) -> None:
        """Forget it, if it is there."""
        self._remove(kind.SHEET, key)
        self.changed.add((kind.SHEET, key))

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
        """Sheets by their plain words, in the order of their time; the newest first if wanted."""
        wanted = Wanted(owner, state, since_ms, limit, newest)
        return [self._opened(kind, *row) for row in self._select(kind.SHEET, wanted)]

    def find_token(self, kind: type[S], purpose: str, value: str) -> list[S]:
        """Sheets that carry this token."""
        wanted = self._token(kind.SHEET, purpose, value)
        return [self._opened(kind, *row) for row in self._holding(kind.SHEET, wanted)]

    def _opened(self, kind: type[S], key: str, sealed: bytes) -> S:
        plain = self._open(kind.SHEET, key, sealed)
        try:
            return msgspec.msgpack.decode(plain, type=kind)
        except ValueError as error:
            raise SealBroken(f"a {kind.SHEET} that this release cannot read: {error}") from error

    # -- what box and hub do each in their way

    def _seal(self, kind: str, key: str, plain: bytes) -> bytes:
        raise NotImplementedError

    def _open(self, kind: str, key: str, sealed: bytes) -> bytes:
        raise NotImplementedError

    def _token(self, kind: str, purpose: str, value: str) -> bytes:
        raise NotImplementedError

    def _fetch(self, kind: str, key: str) -> bytes | None:
        raise NotImplementedError

    def _store(self, kind: str, index: Index, sealed: bytes, tokens: list[bytes]) -> None:
        raise NotImplementedError

    def _remove(self, kind: str, key: str) -> None:
        raise NotImplementedError

    def _select(self, kind: str, wanted: Wanted) -> Rows:
        raise NotImplementedError

    def _holding(self, kind: str, token: bytes) -> Rows:
        raise NotImplementedError
