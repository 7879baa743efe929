"""What a box finds on its disk after an outage: by its own code, against what was said before."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from lianzhen_edge.dicom.segment_log import SegmentLog
from lianzhen_edge.dicom.segments import SegmentReader, segment_path
from lianzhen_edge.dicom.shelf import Shelf
from lianzhen_edge.journal.journal import Journal
from lianzhen_edge.journal.states import ItemState
from lianzhen_protocol import chain, records
from lianzhen_protocol.errors import SealBroken
from lianzhen_protocol.identity import RecordId
from lianzhen_runtime.keys import FileKeys
from lianzhen_runtime.sealedfile import SealedWriter, read_sealed

from .lab_fixtures import note
from .power_disk import Trace
from .power_story import NODE, OWNER, SEGMENT, digest, opened


class Lost(AssertionError):
    """Something was promised and is not there, or is there and never was."""


def needed(holds: object, what: str) -> None:
    """Lost, unless ``holds``."""
    if not holds:
        raise Lost(what)


class Told:
    """All that was said before a line of the trace."""

    def __init__(self, trace: Trace, line: int) -> None:
        self.begun: dict[str, list[Any]] = defaultdict(list)
        self.done: dict[str, list[Any]] = defaultdict(list)
        self.last: dict[str, dict[str, tuple[str | None, set[str]]]] = defaultdict(dict)
        """Kind, name: the content that was promised last, and what may have replaced it."""
        for at, text in trace.notes:
            if at < line:
                said = json.loads(text)
                book = self.begun if said["when"] == "begin" else self.done
                book[said["what"]].append(said)
                if said["what"] in ("small", "whole"):
                    self._file(said)

    def _file(self, said: dict[str, str]) -> None:
        files, name, content = self.last[said["what"]], said["name"], said["content"]
        before, after = files.get(name, (None, set()))
        done = said["when"] == "done"
        files[name] = (content, set()) if done else (before, after | {content})

    def ids(self, part: str, *, done: bool = False) -> set[str]:
        """Records of which the hub's word said so much."""
        book = self.done if done else self.begun
        return {each for said in book["mark"] for each in said[part]}


async def check(root: Path, trace: Trace, line: int) -> None:
    """Lost, or whatever the box itself fails with."""
    told = Told(trace, line)
    journal = await opened(root)
    try:
        _records(journal, told)
        _sheets(journal, told)
        _audit(journal, told)
        fresh = note()
        (placed,) = await journal.put("record.people", [fresh.entry])
        run = journal.read("record.people", placed.seq, 1, 1 << 20)
        needed(run.records == (fresh.entry,), "it takes no record any more")
    finally:
        await journal.close()
    _segments(root, told)
    _upload(root, told)
    _files(root, told)


def _records(journal: Journal, told: Told) -> None:
    (verdict,) = journal._db.execute("PRAGMA integrity_check").fetchone()
    needed(verdict == "ok", f"the journal: {verdict}")
    for fork in told.done["fork"]:
        needed(journal.epoch.hex() != fork["left"], "the journal is in an epoch that it left")
    states = {state.stream: state for state in journal.stream_states()}
    order: dict[str, list[str]] = defaultdict(list)
    content: dict[str, str] = {}
    for said in told.begun["records"]:
        order[said["stream"]] += [each for each, _ in said["records"]]
        content |= dict(said["records"])
    safe = told.ids("safe")
    found: set[str] = set()
    for stream, state in states.items():
        run = journal.read(stream, state.safe + 1, 1 << 20, 1 << 40)
        ids = [records.decode(entry).id.hex() for entry in run.records]
        for identity, entry in zip(ids, run.records, strict=True):
            needed(content.get(identity) == digest(entry), f"{stream}: a record nobody put")
        first = order[stream].index(ids[0]) if ids else 0
        needed(order[stream][first : first + len(ids)] == ids, f"{stream}: not in order")
        hash_ = run.before
        for entry in run.records:
            hash_ = chain.extend(hash_, entry)
        needed(hash_ == journal.hash_at(stream, state.last), f"{stream}: its hash is another")
        needed(len(ids) == state.last - state.safe, f"{stream}: records are missing")
        found |= set(ids)
    for said in told.done["records"]:
        for identity, _ in said["records"]:
            needed(identity in found | safe, f"{said['stream']}: a record is lost")
    _items(journal, told, found)


def _items(journal: Journal, told: Told, found: set[str]) -> None:
    """No record is said to be further than the hub's word was, and none has gone back."""
    safe, committed = told.ids("safe"), told.ids("committed")
    sure = told.ids("committed", done=True)
    for said in told.done["records"]:
        for identity, _ in said["records"]:
            item = journal.item(RecordId(bytes.fromhex(identity)), lambda _stream: 0)
            if item is None:
                raise Lost("an item is lost")
            if item.state is ItemState.SAFE:
                needed(identity in safe and identity not in found, "safe, and nobody said so")
            elif item.state is ItemState.COMMITTED:
                needed(identity in committed, "committed, and nobody said so")
            elif not told.begun["fork"]:  # a fork begins to count anew
                needed(identity not in sure, "the hub's word is forgotten")


def _sheets(journal: Journal, told: Told) -> None:
    begun, done = defaultdict(set), defaultdict(int)
    for said in told.begun["sheet"]:
        begun[said["key"]].add(said["version"])
    for said in told.done["sheet"]:
        done[said["key"]] = said["version"]
    for key, versions in begun.items():
        sheet = journal.sheets.get(Shelf, key)
        version = sheet.offset if sheet else 0
        needed(version >= done[key], "a sheet is lost or old")
        needed(version in versions | {0}, "a sheet that nobody wrote")


def _audit(journal: Journal, told: Told) -> None:
    verdict = journal.sheets.audit_verify(NODE)
    needed(verdict.finding is None, f"audit: {verdict.finding}")
    needed(verdict.rows >= len(told.done["sheet"]) + len(told.done["look"]), "audit rows are lost")


def _segments(root: Path, told: Told) -> None:
    keys, folder = FileKeys(root / "keys"), root / "dicom"
    begun = {said["meta"]: said["body"] for said in told.begun["image"]}
    removed = {said["segment"] for said in told.begun["removal"]}
    reader, found = SegmentReader(folder, keys), {}
    for number in reader.segments():
        for record in reader.scan(number):
            try:
                body = digest(reader.body(record.place))
            except SealBroken:
                continue  # torn; nobody may have been told Success
            needed(begun.get(record.meta.hex()) == body, "an image that nobody sent")
            found[record.place] = record.meta.hex()
    for said in told.done["image"]:
        place = (said["segment"], said["offset"])
        held = found.get(place) == said["meta"]  # type: ignore[call-overload]
        needed(held or said["segment"] in removed, "an image is lost")
    for said in told.done["removal"]:
        needed(not segment_path(folder, said["segment"]).exists(), "a segment has come back")
    log = SegmentLog(folder, keys, segment_bytes=SEGMENT)
    place_now = log.append(b"afterwards", b"content")
    needed(reader.body(place_now) == b"content", "it takes no image any more")
    log.close()


def _upload(root: Path, told: Told) -> None:
    content = b"".join(bytes.fromhex(said["content"]) for said in told.begun["chunk"])
    sizes = [said["size"] for said in told.done["chunk"]]
    if not (root / "uploads").exists():
        needed(not sizes, "uploads are lost")
        return
    taken: list[bytes] = []
    path, keys = root / "uploads" / "upload", FileKeys(root / "keys")
    with SealedWriter(path, keys, OWNER, taken.append) as writer:
        needed(writer.size >= max(sizes, default=0), "a chunk is lost")
        needed(b"".join(taken) == content[: writer.size], "a chunk that nobody sent")
        writer.append(b"afterwards")


def _files(root: Path, told: Told) -> None:
    keys = FileKeys(root / "keys")
    for kind, files in told.last.items():
        for name, (kept, after) in files.items():
            path, content = root / "files" / name, None
            if path.exists():
                sealed = kind == "whole"
                plain = b"".join(read_sealed(path, keys, OWNER)) if sealed else path.read_bytes()
                content = digest(plain)
            needed(content == kept or content in after, f"a {kind} file is lost or torn")
