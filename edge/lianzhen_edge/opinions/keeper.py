"""Judges every opinion at this box, offline: when it arrives, and again with each new list."""

import asyncio
from collections.abc import Callable, Collection
from functools import partial
from typing import Final

from cryptography import x509

from lianzhen_edge.journal.book import Book
from lianzhen_edge.journal.journal import Journal
from lianzhen_protocol.opinion_sheets import Opinion, Revocations, settle
from lianzhen_protocol.opinion_trust import RevocationList, RevocationListError, Verdict, judge
from lianzhen_runtime.log import Log

from .meanings import ArrivedList

_ALL: Final = 1 << 30
_WATCHED: Final = frozenset({Opinion.SHEET, ArrivedList.SHEET})
_log = Log("lianzhen.opinions")


class Opinions:
    """The box's word on opinions. ``journal`` and ``ca`` (PEM) are asked for when needed."""

    def __init__(
        self,
        journal: Callable[[], Journal],
        ca: Callable[[], str],
        now_ms: Callable[[], int],
    ) -> None:
        self._journal = journal
        self._ca = ca
        self._now_ms = now_ms
        self._changed = asyncio.Event()
        self._watched: Journal | None = None

    def verdict(self, opinion: Opinion) -> Verdict:
        """Judge it now, from its bytes: what is shown and printed never rests on an old verdict."""
        return judge(opinion.signed, self._anchors(), self._list(), self._now_ms())

    async def run(self) -> None:
        """Judge what is there, and then whatever comes, for ever."""
        if self._watched is not (journal := self._journal()):
            journal.on_change(self._touched)
            self._watched = journal
        self._changed.set()
        while True:
            await self._changed.wait()
            self._changed.clear()
            await self.step()

    async def step(self) -> None:
        """Take an arrived list into use, then judge what it, or nothing yet, has judged."""
        await self._take_list()
        held, anchors, now_ms = self._list(), self._anchors(), self._now_ms()
        for opinion in self._journal().sheets.find(Opinion, limit=_ALL):
            found = judge(opinion.signed, anchors, held, now_ms)
            if (found.standing, found.revoked_ms) != (opinion.standing, opinion.revoked_ms):
                await self._journal().transact(partial(settle, identity=opinion.id, verdict=found))
                _log.info("opinion judged", status=found.standing)
            await asyncio.sleep(0)  # others go first: there may be thousands

    async def _take_list(self) -> None:
        """A list that is not the CA's, or older than the one in use, is forgotten, and said so."""
        arrived = self._journal().sheets.get(ArrivedList, ArrivedList.KEY)
        if arrived is None:
            return
        taken: Revocations | None = None
        try:
            found = RevocationList(arrived.revocations, self._anchors())
        except RevocationListError as error:
            _log.error("revocation list refused", code=error.code)
        else:
            held = self._journal().sheets.get(Revocations, Revocations.KEY)
            if held is None or held.number < found.number:
                taken = Revocations(
                    revocations=arrived.revocations, number=found.number, made_ms=found.made_ms
                )
        await self._journal().transact(lambda book: _replace(book, arrived, taken))

    def _list(self) -> RevocationList | None:
        held = self._journal().sheets.get(Revocations, Revocations.KEY)
        return None if held is None else RevocationList(held.revocations, self._anchors())

    def _anchors(self) -> list[x509.Certificate]:
        return x509.load_pem_x509_certificates(self._ca().encode())

    def _touched(self, sheets: Collection[tuple[str, str]]) -> None:
        if any(kind in _WATCHED for kind, _ in sheets):
            self._changed.set()


def _replace(book: Book, arrived: ArrivedList, taken: Revocations | None) -> None:
    if taken is not None:
        book.put(taken)
    if book.get(ArrivedList, ArrivedList.KEY) == arrived:  # a later one may lie there by now
        book.delete(ArrivedList, ArrivedList.KEY)
