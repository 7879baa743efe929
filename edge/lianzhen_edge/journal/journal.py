"""The journal: takes records, hands them out in order, forgets them when they are safe.

A row lies at ``stream id << 40 | seq``, sealed for its place. All streams share the present
epoch; a fork moves every record that is not safe into a new one. ``pen`` writes, ``reading``
reads, ``writer`` commits in groups.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Self, TypeVar

from lianzhen_protocol import records
from lianzhen_protocol.errors import SealBroken
from lianzhen_protocol.frame import MAX_RECORD_BYTES
from lianzhen_protocol.identity import Epoch, NodeId
from lianzhen_protocol.lanes import Lane, lane_of
from lianzhen_protocol.marks import ForkReason
from lianzhen_protocol.receiver import Accepted
from lianzhen_protocol.sender import Advanced
from lianzhen_protocol.topics import stream_name
from lianzhen_runtime.errors import Unavailable
from lianzhen_runtime.keys import KeyProvider

from . import schema
from .book import Book, Meanings
from .errors import JournalFull, RecordTooLarge
from .pen import Pen, Placed, Touched, Undone
from .reading import JournalReader
from .room import UNBOUNDED, Room, Share
from .seals import Seals
from .writer import GroupWriter

Result = TypeVar("Result")


class Journal(JournalReader):
    """Open with ``Journal.open``. What it adds to reading are coroutines, and what they did is
    durable when they return.
    """

    def __init__(
        self,
        path: Path,
        node: NodeId,
        keys: KeyProvider,
        now_ms: Callable[[], int],
        share: Share,
        meanings: Meanings,
    ) -> None:
        self.share = share
        """What of the disk it may take."""
        self._connection = schema.connect(path)
        schema.upgrade(self._connection)
        seals = Seals(node, keys)
        self._pen = Pen(self._connection, node, seals, now_ms, meanings)
        super().__init__(path, node, seals)
        self._listeners: list[Callable[[set[str]], None]] = []
        self._watchers: list[Callable[[set[tuple[str, str]]], None]] = []
        self._loop = asyncio.get_running_loop()
        self._writer = GroupWriter(self._connection, self._settled)

    @classmethod
    async def open(
        cls,
        path: Path,
        node: NodeId,
        keys: KeyProvider,
        now_ms: Callable[[], int],
        hardware: str | None = None,
        share: Share = UNBOUNDED,
        meanings: Meanings | None = None,
    ) -> Self:
        """The journal of ``node`` at ``path``, made if missing.

        ``hardware`` names the machine (None where it has no name of its own): a journal that
        wakes up in another one forks before it sends anything. ``share`` bounds what it takes of
        the disk. ``meanings`` say what each kind of record does to the sheets.
        """
        try:
            journal = cls(path, node, keys, now_ms, share, meanings or {})
        except sqlite3.Error as error:
            raise Unavailable(f"the journal {path} does not open: {error}") from error
        except SealBroken as error:
            raise Unavailable(
                f"the keys do not open the journal {path}: put the folder of keys back"
            ) from error
        if hardware is not None:
            await journal._writer.do(lambda: journal._pen.recognise(hardware))
        if journal.held():
            await journal._writer.do(journal._pen.try_again)
        return journal

    async def close(self) -> None:
        """Commit what is queued, and let go of the file."""
        await self._writer.close()
        self._db.close()
        self._connection.close()

    async def put(self, stream: str, entries: Sequence[bytes]) -> list[Placed]:
        """Append records (encoded, see protocol.records) to a stream, in order.

        They are on the disk when this returns. A record whose id the journal knows keeps its
        first place, so a caller that never got its answer just asks again. RecordError for what
        is no record, RecordTooLarge, JournalFull or JournalError: then none was stored.
        """
        lane = lane_of(stream_name(stream))
        batch = [(records.decode(entry).id, entry) for entry in entries]
        for _, entry in batch:
            if len(entry) > MAX_RECORD_BYTES:
                raise RecordTooLarge(f"a record of {len(entry)} bytes; {MAX_RECORD_BYTES} at most")
        room = self.room()
        left = room.reserved if lane is Lane.ALARM else room.ordinary
        if sum(map(len, entries)) > left:
            raise JournalFull(room.sentence)
        return await self._writer.do(lambda: self._pen.append(stream, lane, batch))

    async def transact(self, work: Callable[[Book], Result]) -> Result:
        """Run ``work`` in a transaction; what it wrote is on the disk when this returns.

        It runs on the writer's thread and must be short. What it raises is raised here, and
        nothing of it happened. JournalFull or JournalError as for ``put``; where the share is
        used up, only for work that adds more than the reserve is for (``Book``).
        """
        room = self.room()
        if room.reserved <= 0:
            raise JournalFull(room.sentence)
        full = JournalFull(room.sentence) if room.full else None
        outcome = await self._writer.do(lambda: self._pen.work(work, full))
        if isinstance(outcome, Undone):
            raise outcome.error
        return outcome.result

    async def advance(self, moves: Iterable[tuple[Epoch, Advanced]]) -> None:
        """Note how far the hub is, and delete what is safe.

        What was said of an epoch that the journal has left means nothing in the new one.
        """
        found = list(moves)
        await self._writer.do(lambda: self._pen.advance(found))

    async def fork(self, reason: ForkReason, leaving: Epoch) -> None:
        """Leave the epoch: a new one that names its parent, and all that is not safe moves in.

        Nothing happens if the journal has left ``leaving`` already: two sessions may find out.
        """
        await self._writer.do(lambda: self._pen.fork(reason, leaving))

    async def receive(self, epoch: Epoch, stream: str, accepted: Accepted) -> None:
        """Take down records in: apply what this release knows, keep what it does not."""
        await self._writer.do(lambda: self._pen.take(epoch, stream, accepted))

    def on_append(self, listener: Callable[[set[str]], None]) -> None:
        """Call ``listener`` on the loop with the names of streams that grew or moved epoch."""
        self._listeners.append(listener)

    def on_change(self, listener: Callable[[set[tuple[str, str]]], None]) -> None:
        """Call ``listener`` on the loop with the (kind, key) of sheets that a commit changed."""
        self._watchers.append(listener)

    def room(self) -> Room:
        """What is left of its share now."""
        return self.share.room(self._path.parent, self.extent())

    def _settled(self, committed: bool) -> None:
        touched = self._pen.settled(committed)
        if touched.streams or touched.sheets:
            self._loop.call_soon_threadsafe(self._announce, touched)

    def _announce(self, touched: Touched) -> None:
        if touched.streams:
            for listener in self._listeners:
                listener(touched.streams)
        if touched.sheets:
            for watcher in self._watchers:
                watcher(touched.sheets)
