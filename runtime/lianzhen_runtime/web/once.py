"""A form that is sent twice is done once.

A browser sends a form again after an answer that got lost, a double click, or a reload. Each form
carries an id that was made with its page; what the act came to is kept under it in the act's own
commit, so whoever sends the same again gets the same answer. Other fields under the same id are
another act: somebody went back and typed something else.
"""

from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import Final, Protocol, TypeVar

import msgspec

from lianzhen_protocol.sheets import Index, Sheet, Sheets

FIELD: Final = "once"
"""Its name in a form or in a JSON object."""
KEPT_MS: Final = 7 * 86_400_000
"""How long an act is remembered; a browser asks before it sends a form from an older page."""
_SWEPT: Final = 8
_MOST: Final = 64

T = TypeVar("T")


class Dated(Sheets, Protocol):
    """Sheets in a transaction that knows the time."""

    @property
    def now_ms(self) -> int:
        """Trusted time, UTC."""


P = TypeVar("P", bound=Dated)


class Done(Sheet, frozen=True, kw_only=True):
    """An act and what it came to."""

    SHEET = "web-once"

    id: str
    result: bytes
    at_ms: int

    def index(self) -> Index:
        return Index(self.id, at_ms=self.at_ms)


class Given(msgspec.Struct, frozen=True):
    """What every form may have."""

    once: str = ""


class Act:
    """One sending of a form. An empty ``key``: nobody said which, and it is simply done."""

    def __init__(self, key: str = "") -> None:
        self._key = key
        self.again = False
        """Whether it had been done before; known after ``do``."""

    async def do(
        self,
        transact: Callable[[Callable[[P], T]], Awaitable[T]],
        work: Callable[[P], T],
        kind: type[T],
    ) -> T:
        """``transact(work)``; or, where that was done before, what it came to, a ``kind``.

        Nothing is remembered of a work that raises: it did not happen.
        """
        key = self._key
        if not key:
            return await transact(work)

        def working(page: P) -> T:
            done = page.get(Done, key)
            self.again = done is not None
            if done is not None:
                return msgspec.json.decode(done.result, type=kind)
            result = work(page)
            page.put(Done(id=key, result=msgspec.json.encode(result), at_ms=page.now_ms))
            _sweep(page)
            return result

        return await transact(working)


def key_of(actor: str, path: str, once: str, body: bytes) -> str:
    """By whom, where, which and what: all of it is the act."""
    said = "\0".join((actor, path, once[:_MOST])).encode()
    return sha256(said + b"\0" + sha256(body).digest()).hexdigest()


def _sweep(page: Dated) -> None:
    for old in page.find(Done, limit=_SWEPT):
        if old.at_ms < page.now_ms - KEPT_MS:
            page.delete(Done, old.id)
