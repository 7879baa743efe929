"""Writes everything that a box keeps on its disk, by the box's own code, and says what it did.

Runs as a program, ``power_story.py FOLDER SAID SEED``, under strace. Each line of ``SAID`` is
written before something begins that may be found afterwards, or after the code has returned, which
is a promise.
"""

import asyncio
import hashlib
import json
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from lianzhen_edge.dicom.segment_log import SegmentLog
from lianzhen_edge.dicom.segments import BLOCK, SegmentReader
from lianzhen_edge.dicom.shelf import Shelf
from lianzhen_edge.journal.book import Book
from lianzhen_edge.journal.journal import Journal
from lianzhen_edge.meanings import MEANINGS
from lianzhen_protocol import kinds
from lianzhen_protocol.identity import NodeId, uuid7
from lianzhen_protocol.marks import ForkReason
from lianzhen_protocol.records import DiagnosticNote
from lianzhen_protocol.sender import Advanced
from lianzhen_runtime.files import private_folder, write_durably
from lianzhen_runtime.keys import FileKeys
from lianzhen_runtime.sealedfile import SealedWriter, write_sealed

NODE: Final = NodeId("n0123456789ab")
STREAMS: Final = ("record.people", "alarm.clinic", "vitals.readings")
SEGMENT: Final = 16 * BLOCK
OWNER: Final = "power"
CHECKPOINT_PAGES: Final = 30
NOW_MS: Final = 1_800_000_000_000

Say = Callable[..., None]


def digest(content: bytes) -> str:
    """As it is said."""
    return hashlib.sha256(content).hexdigest()[:24]


async def opened(folder: Path) -> Journal:
    """The journal of a folder, with a write-ahead log that turns over soon."""
    keys = FileKeys(folder / "keys")
    journal = await Journal.open(
        folder / "journal.db", NODE, keys, lambda: NOW_MS, "machine", meanings=MEANINGS
    )
    journal._connection.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}")
    return journal


class Story:
    """What is done, by chance, one thing after another; some at once."""

    def __init__(self, folder: Path, say: Say, chance: random.Random) -> None:
        self.folder, self._say, self._chance = folder, say, chance
        self._files = private_folder(folder / "files")
        self._dicom, self._uploads = folder / "dicom", private_folder(folder / "uploads")
        self._journal: Journal
        self._log: SegmentLog
        self._upload: SealedWriter
        self._number = 0
        self._kept: dict[str, list[str]] = {stream: [] for stream in STREAMS}
        """Ids of the present epoch, in order."""

    async def run(self, steps: int) -> None:
        """All of it."""
        await self._begin()
        doings = (
            *(self._put,) * 5,
            *(self._sheet,) * 3,
            *(self._image,) * 3,
            *(self._advance,) * 2,
            *(self._chunk, self._small, self._whole, self._remove, self._look),
        )
        for step in range(steps):
            if step == steps // 3:
                await self._fork()
            if step in (steps // 2, 3 * steps // 4):
                await self._end()  # and again: the write-ahead log goes with the last to use it
                await self._begin()
            await self._chance.choice(doings)()
        await self._end()

    async def _begin(self) -> None:
        keys = FileKeys(self.folder / "keys")
        self._journal = await opened(self.folder)
        self._log = SegmentLog(self._dicom, keys, segment_bytes=SEGMENT)
        self._upload = SealedWriter(self._uploads / "upload", keys, OWNER)

    async def _end(self) -> None:
        await self._journal.close()
        self._log.close()
        self._upload.close()

    def _some(self, most: int) -> bytes:
        return self._chance.randbytes(self._chance.randint(1, most))

    async def _put(self) -> None:
        """Some callers at once, each with some records of one stream."""
        async with asyncio.TaskGroup() as callers:
            for stream in self._chance.sample(STREAMS, self._chance.randint(1, 3)):
                callers.create_task(self._put_one(stream, self._chance.randint(1, 6)))

    async def _put_one(self, stream: str, count: int) -> None:
        ids = [uuid7(NOW_MS, self._chance.randbytes(10)) for _ in range(count)]
        notes = (DiagnosticNote(text=self._some(1500).hex()) for _ in ids)
        entries = [kinds.encode(note, each, NOW_MS) for note, each in zip(notes, ids, strict=True)]
        known = [(each.hex(), digest(entry)) for each, entry in zip(ids, entries, strict=True)]
        self._say("begin", what="records", stream=stream, records=known)
        await self._journal.put(stream, entries)
        self._kept[stream] += [each for each, _ in known]
        self._say("done", what="records", stream=stream, records=known)

    async def _sheet(self) -> None:
        self._number += 1
        key, version = f"{self._chance.randrange(8):032x}", self._number
        sheet = Shelf(id=key, segment=1, offset=version, stored_ms=NOW_MS)

        def work(book: Book) -> None:
            book.put(sheet)
            book.audit("me", "read", f"shelf/{key}")

        self._say("begin", what="sheet", key=key, version=version)
        await self._journal.transact(work)
        self._say("done", what="sheet", key=key, version=version)

    async def _look(self) -> None:
        await self._journal.transact(lambda book: book.audit("me", "read", "patient/1"))
        self._say("done", what="look")

    async def _advance(self) -> None:
        """The hub's word: more is committed, and some of it safe."""
        for state in self._journal.stream_states():
            committed = self._chance.randint(state.committed, state.last)
            safe = self._chance.randint(state.safe, committed)
            kept, epoch = self._kept[state.stream], self._journal.epoch
            mark = {"committed": kept[:committed], "safe": kept[:safe]}
            self._say("begin", what="mark", **mark)
            await self._journal.advance([(epoch, Advanced(state.stream, committed, safe))])
            self._say("done", what="mark", **mark)

    async def _fork(self) -> None:
        """The rest gets new numbers, from 1."""
        left = self._journal.epoch
        safe = {state.stream: state.safe for state in self._journal.stream_states()}
        self._say("begin", what="fork")
        await self._journal.fork(ForkReason.HISTORIES_DIFFER, left)
        self._say("done", what="fork", left=left.hex())
        for stream, kept in self._kept.items():
            del kept[: safe.get(stream, 0)]

    async def _image(self) -> None:
        """Modalities send at once."""

        def keep(meta: bytes, body: bytes) -> None:
            said: dict[str, Any] = {"meta": meta.hex(), "body": digest(body)}
            self._say("begin", what="image", **said)
            place = self._log.append(meta, body)
            self._say("done", what="image", **said, segment=place.segment, offset=place.offset)

        bodies = [self._some(4 * BLOCK) for _ in range(self._chance.randint(1, 3))]
        async with asyncio.TaskGroup() as senders:
            for body in bodies:
                self._number += 1
                meta = f"meta {self._number}".encode()
                senders.create_task(asyncio.to_thread(keep, meta, body))

    async def _remove(self) -> None:
        """The hub has a whole segment."""
        reader = SegmentReader(self._dicom, FileKeys(self.folder / "keys"))
        if len(numbers := reader.segments()) > 2:
            self._say("begin", what="removal", segment=numbers[0])
            reader.remove(numbers[0])
            self._say("done", what="removal", segment=numbers[0])

    async def _chunk(self) -> None:
        content = self._some(9000)
        self._say("begin", what="chunk", content=content.hex())
        self._upload.append(content)
        self._say("done", what="chunk", size=self._upload.size)

    async def _small(self) -> None:
        name, content = f"small{self._chance.randrange(3)}", self._some(700)
        self._say("begin", what="small", name=name, content=digest(content))
        write_durably(self._files / name, content)
        self._say("done", what="small", name=name, content=digest(content))

    async def _whole(self) -> None:
        name, content = f"whole{self._chance.randrange(3)}", self._some(9000)
        self._say("begin", what="whole", name=name, content=digest(content))
        write_sealed(self._files / name, FileKeys(self.folder / "keys"), OWNER, content)
        self._say("done", what="whole", name=name, content=digest(content))


def main() -> None:
    """One run."""
    folder, said, seed, steps = Path(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:5])
    os.umask(0o077)
    descriptor = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def say(when: str, **more: Any) -> None:
        os.write(descriptor, json.dumps({"when": when} | more).encode() + b"\n")

    asyncio.run(Story(folder, say, random.Random(seed)).run(steps))


if __name__ == "__main__":
    main()
