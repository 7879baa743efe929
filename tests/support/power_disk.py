"""A disk that loses power, as pure data: what a program wrote, what it synced, what may be left.

Made from the system calls of a real run (``strace``). A write, a change of size or a change of
names is durable once a sync of its file, or of its folder, that began after it has returned. Of
what is not, any part may be there: each sector of a write for itself, sizes with or without what
they are for, names of a folder up to some point (journalling file systems keep their order), a
folder's names whatever became of its files. What POSIX does not promise is not assumed.
"""

import math
import random
import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Final

CALLS: Final = (
    "openat,lseek,write,writev,pwrite64,ftruncate,fallocate,fdatasync,fsync,"
    "rename,unlink,rmdir,mkdir"
)


@dataclass(frozen=True)
class Op:
    """A change of one file: bytes at an offset, or (``data`` None) a size.

    ``enter`` and ``end``: lines of the trace between which it happened. ``durable``: the line at
    which nothing can undo it any more.
    """

    target: int
    enter: int
    end: int
    offset: int
    data: bytes | None
    grows: bool = False
    """Of a size: never less than there is (fallocate)."""
    durable: float = math.inf


@dataclass(frozen=True)
class Names:
    """A change of a folder: names, each with its file or folder, or None where it went."""

    target: str
    enter: int
    end: int
    names: dict[str, int | str | None]
    durable: float = math.inf


@dataclass(frozen=True)
class Sync:
    """A sync that returned, of a file (number) or a folder (path)."""

    target: int | str
    enter: int
    end: int
    path: str


@dataclass
class Trace:
    """All that a run did to the disk, and what it said meanwhile (``notes``: line and text)."""

    ops: list[Op] = field(default_factory=list)
    names: list[Names] = field(default_factory=list)
    syncs: list[Sync] = field(default_factory=list)
    notes: list[tuple[int, bytes]] = field(default_factory=list)
    lines: int = 0

    def without(self, lost: Callable[[Sync], bool]) -> "Trace":
        """The same run of a program that leaves some of its syncs out."""
        return _settled(replace(self, syncs=[each for each in self.syncs if not lost(each)]))

    def synced(self) -> "Trace":
        """The same run on a disk that loses nothing."""
        firm = [replace(op, durable=-1.0) for op in self.ops]
        return replace(self, ops=firm, names=[replace(each, durable=-1.0) for each in self.names])

    def hasty(self, lines: int) -> "Trace":
        """The same run of a program that says everything so many lines earlier."""
        return replace(self, notes=[(max(0, at - lines), text) for at, text in self.notes])

    def points(self) -> list[int]:
        """Where power may fail: around each sync and after each note."""
        found = {at for at, _ in self.notes} | {at + 1 for at, _ in self.notes}
        for each in self.syncs:
            found |= {each.enter, each.end, each.end + 1}
        return sorted(found | {self.lines})


def _settled(trace: Trace) -> Trace:
    """With the line from which on each change is durable."""
    syncs: dict[int | str, list[Sync]] = defaultdict(list)
    for each in trace.syncs:
        syncs[each.target].append(each)

    def durable(op: Op | Names) -> float:
        after = (sync.end for sync in syncs[op.target] if sync.enter > op.end)
        return min(after, default=math.inf)

    return replace(
        trace,
        ops=[replace(op, durable=durable(op)) for op in trace.ops],
        names=[replace(each, durable=durable(each)) for each in trace.names],
    )


# -- from strace

_LINE = re.compile(r"(\d+) +(.*)")
_RESUMED = re.compile(r"<\.\.\. \w+ resumed>(.*)")
_CALL = re.compile(r"(\w+)\((.*)\) += (-?\d+)")
_FD = re.compile(r"(\d+)<([^>]*)>(\(deleted\))?")


def _unhex(text: str) -> bytes:
    return bytes.fromhex(text.strip('"').replace("\\x", ""))


class _Reader:
    """One run's calls, in order; paths are told below ``root``, notes go to the file ``said``."""

    def __init__(self, root: Path, said: Path) -> None:
        self._root, self._said = str(root), str(said)
        self.trace = Trace()
        self._at: dict[str, int] = {}
        self._sizes: dict[int, int] = {}
        self._place: dict[int, int] = {}

    def call(self, name: str, arguments: str, result: int, enter: int, end: int) -> None:
        if result < 0:
            return
        parts = arguments.split(", ")
        if name in ("openat", "mkdir", "rename", "unlink", "rmdir"):
            self._named(name, parts, result, enter, end)
        elif (found := _FD.match(parts[0])) is not None and not found[3]:
            self._on(name, int(found[1]), _unhex(found[2]).decode(), parts, result, enter, end)

    def _inside(self, path: str) -> str | None:
        if path == self._root:
            return ""
        prefix = self._root + "/"
        return path.removeprefix(prefix) if path.startswith(prefix) else None

    def _change(self, enter: int, end: int, names: dict[str, int | str | None]) -> None:
        folder = str(PurePosixPath(next(iter(names))).parent)
        plain = {PurePosixPath(path).name: what for path, what in names.items()}
        self.trace.names.append(Names(folder, enter, end, plain))

    def _named(self, name: str, parts: list[str], result: int, enter: int, end: int) -> None:
        path = self._inside(_unhex(parts[1] if name == "openat" else parts[0]).decode())
        if path is None:
            return
        if name == "openat":
            self._open(path, parts[2], result, enter, end)
        elif name == "mkdir":
            self._change(enter, end, {path: path})
        elif name == "rename":
            target = self._inside(_unhex(parts[1]).decode())
            if target is None:
                raise ValueError("a file that leaves the folder")
            inode = self._at.pop(path)
            self._at[target] = inode
            self._change(enter, end, {path: None, target: inode})
        else:
            self._at.pop(path, None)
            self._change(enter, end, {path: None})

    def _open(self, path: str, flags: str, descriptor: int, enter: int, end: int) -> None:
        self._place[descriptor] = 0
        if path not in self._at and "O_CREAT" in flags:
            inode = self._at[path] = len(self._sizes) + 1
            self._sizes[inode] = 0
            self._change(enter, end, {path: inode})
        elif "O_TRUNC" in flags:
            self._size(self._at[path], 0, enter, end)

    def _on(
        self, name: str, fd: int, path: str, parts: list[str], result: int, enter: int, end: int
    ) -> None:
        if path == self._said and name == "write":
            self.trace.notes.append((enter, _unhex(parts[1])))
        inside = self._inside(path)
        if inside is None:
            return
        inode = self._at.get(inside)
        if name in ("fsync", "fdatasync"):
            target = (inside or ".") if inode is None else inode
            self.trace.syncs.append(Sync(target, enter, end, inside))
        elif name == "lseek":
            self._place[fd] = result
        elif inode is not None:
            self._write(name, fd, inode, parts, result, enter, end)

    def _write(
        self, name: str, fd: int, inode: int, parts: list[str], result: int, enter: int, end: int
    ) -> None:
        if name == "ftruncate":
            self._size(inode, int(parts[1]), enter, end)
        elif name == "fallocate":
            size = max(self._sizes[inode], int(parts[2]) + int(parts[3]))
            self._size(inode, size, enter, end, grows=True)
        elif name in ("write", "pwrite64"):
            offset = int(parts[3]) if name == "pwrite64" else self._place[fd]
            data = _unhex(parts[1])[:result]
            self.trace.ops.append(Op(inode, enter, end, offset, data))
            self._sizes[inode] = max(self._sizes[inode], offset + result)
            if name == "write":
                self._place[fd] = offset + result
        else:
            raise ValueError(f"a call that is not understood: {name}")

    def _size(self, inode: int, size: int, enter: int, end: int, *, grows: bool = False) -> None:
        self.trace.ops.append(Op(inode, enter, end, size, None, grows))
        self._sizes[inode] = size


def read_trace(lines: Iterable[str], root: Path, said: Path) -> Trace:
    """What ``strace -f -y -xx`` of ``CALLS`` saw below ``root``, which was empty before."""
    reader, begun = _Reader(root, said), dict[str, tuple[str, int]]()
    for number, line in enumerate(lines, 1):
        reader.trace.lines = number + 1
        if (found := _LINE.match(line.rstrip())) is None:
            continue
        thread, text = found[1], found[2]
        enter = number
        if text.endswith("<unfinished ...>"):
            begun[thread] = text.removesuffix("<unfinished ...>").rstrip(), number
            continue
        if (resumed := _RESUMED.match(text)) is not None:
            first, enter = begun.pop(thread)
            text = first + resumed[1]
        if (call := _CALL.match(text)) is not None:
            reader.call(call[1], call[2], int(call[3]), enter, number)
    return _settled(reader.trace)


# -- what may be left


@dataclass(frozen=True)
class Outage:
    """Power fails at a line of the trace; ``seed`` decides what of the unsynced is left."""

    line: int
    seed: int

    def image(self, trace: Trace) -> dict[str, bytes | None]:
        """Path below the root -> content; None for a folder."""
        chance = random.Random(self.seed)
        whole = chance.choice((0.0, 1.0, None, None, None))
        kept = _names(trace, self.line, chance, whole)
        ops: dict[int, list[Op]] = defaultdict(list)
        for op in trace.ops:
            if op.enter < self.line:
                ops[op.target].append(op)
        found: dict[str, bytes | None] = {}
        folders = ["."]
        while folders:
            folder = folders.pop()
            for name, what in kept.get(folder, {}).items():
                path = str(PurePosixPath(folder) / name)
                if isinstance(what, int):
                    found[path] = _content(ops[what], self.line, chance, whole)
                else:
                    found[path] = None
                    folders.append(path)
        return found


def _names(
    trace: Trace, line: int, chance: random.Random, whole: float | None
) -> dict[str, dict[str, int | str]]:
    changes: dict[str, list[Names]] = defaultdict(list)
    for each in trace.names:
        if each.enter < line:
            changes[each.target].append(each)
    found: dict[str, dict[str, int | str]] = {}
    for folder, made in changes.items():
        firm = sum(each.durable < line for each in made)
        free = len(made) - firm
        extra = chance.randint(0, free) if whole is None else int(whole) * free
        names: dict[str, int | str] = {}
        for each in made[: firm + extra]:
            for name, what in each.names.items():
                if what is None:
                    names.pop(name, None)
                else:
                    names[name] = what
        found[folder] = names
    return found


def _content(ops: list[Op], line: int, chance: random.Random, whole: float | None) -> bytes:
    share = chance.choice((0.0, 0.1, 0.5, 0.9, 1.0)) if whole is None else whole
    sector = chance.choice((512, 4096))
    content = bytearray()
    for op in ops:
        firm = op.durable < line
        if op.data is None:
            if firm or chance.random() < share:
                _resize(content, max(op.offset, len(content)) if op.grows else op.offset)
        elif firm or share == 1.0:
            _put(content, op.offset, op.data)
        elif share:
            _tear(content, op, sector, share, chance)
    return bytes(content)


def _tear(content: bytearray, op: Op, sector: int, share: float, chance: random.Random) -> None:
    """Some sectors of a write; the size may have come with or without them."""
    data = op.data or b""
    if chance.random() < share:
        _resize(content, max(len(content), op.offset + len(data)))
    at = op.offset
    while at < op.offset + len(data):
        end = min((at // sector + 1) * sector, op.offset + len(data))
        if chance.random() < share:
            _put(content, at, data[at - op.offset : end - op.offset])
        at = end


def _put(content: bytearray, offset: int, data: bytes) -> None:
    _resize(content, max(len(content), offset + len(data)))
    content[offset : offset + len(data)] = data


def _resize(content: bytearray, size: int) -> None:
    if size < len(content):
        del content[size:]
    else:
        content.extend(bytes(size - len(content)))


def lay_out(image: dict[str, bytes | None], root: Path) -> None:
    """Make an image's files; those of shared memory are no files of a disk."""
    for path, content in sorted(image.items()):
        if content is None:
            (root / path).mkdir(mode=0o700, parents=True, exist_ok=True)
        elif not path.endswith("-shm"):
            (root / path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            (root / path).write_bytes(content)
            (root / path).chmod(0o600)
