"""The segment log: what was appended is there, whatever the power, the disk or a thief does."""

import itertools
import os
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lianzhen_edge.dicom.segments import (
    BLOCK,
    Disk,
    LogFailed,
    LogFull,
    Place,
    SegmentLog,
    SegmentReader,
    segment_path,
    segments,
)
from lianzhen_protocol.errors import SealBroken
from lianzhen_runtime.keys import FileKeys
from support.bad_disk import BadDisk

SMALL = 64 * BLOCK


@pytest.fixture
def keys(tmp_path: Path) -> FileKeys:
    return FileKeys(tmp_path / "keys")


def opened(folder: Path, keys: FileKeys, disk: Disk | None = None) -> SegmentLog:
    return SegmentLog(folder, keys, disk=disk, segment_bytes=SMALL)


def content(folder: Path, keys: FileKeys) -> dict[bytes, bytes]:
    """Everything whole that a reader finds: meta -> body."""
    reader, found = SegmentReader(folder, keys), {}
    for number in reader.segments():
        for record in reader.scan(number):
            try:
                found[record.meta] = reader.body(record.place)
            except SealBroken:
                continue
    return found


def test_what_was_appended_is_read_back_where_it_was_put(tmp_path: Path, keys: FileKeys) -> None:
    log, folder = opened(tmp_path / "log", keys), tmp_path / "log"
    bodies = [b"", b"x", bytes(BLOCK), os.urandom(5 * BLOCK + 17), os.urandom(2 * SMALL)]
    places = [log.append(b"meta %d" % n, body) for n, body in enumerate(bodies)]
    reader = SegmentReader(folder, keys)
    for number, (place, body) in enumerate(zip(places, bodies, strict=True)):
        found = reader.meta(place)
        assert (found.meta, found.held, found.body_bytes) == (b"meta %d" % number, False, len(body))
        assert reader.body(place) == body
    assert [found.place for n in reader.segments() for found in reader.scan(n)] == places
    assert places[-1].segment > places[0].segment  # larger than a segment: one of its own
    log.close()


def test_a_held_record_is_marked(tmp_path: Path, keys: FileKeys) -> None:
    log = opened(tmp_path / "log", keys)
    place = log.append(b"m", b"b", held=True)
    assert SegmentReader(tmp_path / "log", keys).meta(place).held


def test_a_start_begins_a_new_segment(tmp_path: Path, keys: FileKeys) -> None:
    folder = tmp_path / "log"
    first = opened(folder, keys).append(b"1", b"one")
    (folder / ".00000009.new").write_bytes(b"left by a crash")
    second = opened(folder, keys).append(b"2", b"two")
    assert (first.segment, second.segment) == (1, 2)
    assert content(folder, keys) == {b"1": b"one", b"2": b"two"}
    assert not list(folder.glob(".*"))


def test_nothing_of_it_is_in_clear_and_nothing_moves(tmp_path: Path, keys: FileKeys) -> None:
    folder = tmp_path / "log"
    log = opened(folder, keys)
    first, second = (log.append(b"Wang^Wei", b"pixels" * 100) for _ in range(2))
    path = segment_path(folder, 1)
    raw = bytearray(path.read_bytes())
    assert b"Wang" not in raw
    assert b"pixels" not in raw
    one, two = raw[first.offset : second.offset], raw[second.offset : 2 * second.offset]
    raw[first.offset : second.offset], raw[second.offset : 2 * second.offset] = two, one
    path.write_bytes(raw)
    assert content(folder, keys) == {}


def test_a_record_within_a_record_is_pixels(tmp_path: Path, keys: FileKeys) -> None:
    folder = tmp_path / "log"
    log = opened(folder, keys)
    log.append(b"1", b"one")
    forged = segment_path(folder, 1).read_bytes()[BLOCK : 2 * BLOCK]
    log.append(b"2", bytes(BLOCK) + forged * 4)
    assert len(content(folder, keys)) == 2


@pytest.mark.parametrize("offset", [0, 1, BLOCK - 1, 3 * BLOCK, SMALL, 1 << 40])
def test_no_record_begins_there(tmp_path: Path, keys: FileKeys, offset: int) -> None:
    opened(tmp_path / "log", keys).append(b"1", b"one")
    reader = SegmentReader(tmp_path / "log", keys)
    for read in (reader.meta, reader.body):
        with pytest.raises(SealBroken):
            read(Place(1, offset))
    with pytest.raises(FileNotFoundError):
        reader.body(Place(7, BLOCK))
    assert list(reader.scan(7)) == []


def test_a_damaged_first_block_hides_its_segment_only(tmp_path: Path, keys: FileKeys) -> None:
    folder = tmp_path / "log"
    opened(folder, keys).append(b"1", b"one")
    opened(folder, keys).append(b"2", b"two")
    with segment_path(folder, 1).open("r+b") as file:
        file.seek(20)
        file.write(b"\xff")
    assert content(folder, keys) == {b"2": b"two"}


def test_a_full_disk_is_said_and_gets_well(tmp_path: Path, keys: FileKeys) -> None:
    disk = BadDisk()
    log = opened(tmp_path / "log", keys, disk)
    log.append(b"1", b"one")
    disk.free = 0
    log.append(b"2", b"fits")  # the segment is there already: its room was given long ago
    with pytest.raises(LogFull, match="full"):
        log.append(b"3", bytes(SMALL))
    disk.free = 1 << 40
    log.append(b"3", b"three")
    assert set(content(tmp_path / "log", keys)) == {b"1", b"2", b"3"}


@pytest.mark.parametrize("what", ["sync_error", "write_error"])
def test_a_medium_that_refuses_gets_no_more_in_that_segment(
    tmp_path: Path, keys: FileKeys, what: str
) -> None:
    disk = BadDisk()
    log = opened(tmp_path / "log", keys, disk)
    log.append(b"1", b"one")
    setattr(disk, what, OSError(5, "Input/output error"))
    with pytest.raises(LogFailed, match="Input/output error"):
        log.append(b"2", b"two")
    setattr(disk, what, None)
    assert log.append(b"3", b"three").segment == 2
    assert content(tmp_path / "log", keys).keys() >= {b"1", b"3"}
    log.close()


def test_an_image_of_a_gigabyte_is_too_large(tmp_path: Path, keys: FileKeys) -> None:
    class Huge(bytes):
        def __len__(self) -> int:
            return (1 << 30) + 1

    with pytest.raises(LogFull, match="at most"):
        opened(tmp_path / "log", keys).append(b"1", Huge())


def test_files_are_let_go_of(tmp_path: Path, keys: FileKeys) -> None:
    before = len(os.listdir("/proc/self/fd"))
    log = opened(tmp_path / "log", keys)
    for number in range(40):
        log.append(b"%d" % number, bytes(20 * BLOCK))
    assert len(segments(tmp_path / "log")) > 5
    assert len(os.listdir("/proc/self/fd")) == before + 1
    log.close()
    assert len(os.listdir("/proc/self/fd")) == before


class SlowDisk(BadDisk):
    """Lets a sync wait until others have written."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()

    def fdatasync(self, descriptor: int) -> None:
        self.gate.wait(10)
        super().fdatasync(descriptor)


def test_those_who_wait_share_a_sync(tmp_path: Path, keys: FileKeys) -> None:
    disk = SlowDisk()
    log = opened(tmp_path / "log", keys, disk)
    with ThreadPoolExecutor(8) as pool:
        work = [pool.submit(log.append, b"%d" % n, bytes(100)) for n in range(8)]
        while log._written < 8:  # all of them have written, one of them leads
            assert not any(each.done() for each in work)
        disk.gate.set()
        assert len({each.result() for each in work}) == 8
    assert disk.syncs <= 3
    assert len(content(tmp_path / "log", keys)) == 8


# -- the power fails

SECTOR = 512


class Tape(Disk):
    """Remembers every write and sync with its begin and end, so that any moment can be replayed."""

    def __init__(self) -> None:
        self.clock = itertools.count(1)
        self.writes: list[tuple[int, int, str, int, bytes]] = []
        self.syncs: list[tuple[int, int, str]] = []

    def pwrite(self, descriptor: int, content: memoryview, offset: int) -> None:
        began, copy = next(self.clock), bytes(content)
        super().pwrite(descriptor, content, offset)
        self.writes.append((began, next(self.clock), self._name(descriptor), offset, copy))

    def fdatasync(self, descriptor: int) -> None:
        began = next(self.clock)
        super().fdatasync(descriptor)
        self.syncs.append((began, next(self.clock), self._name(descriptor)))

    @staticmethod
    def _name(descriptor: int) -> str:
        return Path(os.readlink(f"/proc/self/fd/{descriptor}")).name.lstrip(".")[:8]

    def replay(self, until: int, folder: Path, luck: random.Random) -> None:
        """The files as a power cut at ``until`` may leave them: unsynced sectors by luck."""
        folder.mkdir()
        for began, ended, name, offset, data in sorted(self.writes):
            if began >= until:
                continue
            path = folder / f"{name}.seg"
            if not path.exists():
                path.write_bytes(bytes(SMALL))
            safe = len(data) >= SMALL or offset == 0 or self._synced(name, ended, until)
            keep = luck.choice((0.0, 0.5, 0.95, 1.0))
            with path.open("r+b") as file:
                for at in range(0, len(data), SECTOR):
                    if safe or luck.random() < keep:
                        file.seek(offset + at)
                        file.write(data[at : at + SECTOR])

    def _synced(self, name: str, ended: int, until: int) -> bool:
        return any(n == name and b > ended and e < until for b, e, n in self.syncs)


@pytest.mark.parametrize("seed", range(4))
def test_a_power_cut_takes_nothing_that_was_acknowledged(
    tmp_path: Path, keys: FileKeys, seed: int
) -> None:
    tape, luck = Tape(), random.Random(seed)
    log = opened(tmp_path / "log", keys, tape)
    acknowledged: list[tuple[int, bytes]] = []
    said: dict[bytes, bytes] = {}

    def send(worker: int) -> None:
        for number in range(5):
            meta = b"%d-%d" % (worker, number)
            said[meta] = body = random.Random(meta).randbytes(1000 + 3000 * worker * number)
            log.append(meta, body)
            acknowledged.append((next(tape.clock), meta))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(send, range(4)))
    end = next(tape.clock)
    for cut in range(25):
        moment = luck.randrange(4, end)
        folder = tmp_path / f"cut-{cut}"
        tape.replay(moment, folder, luck)
        found = content(folder, keys)
        lost = {meta for at, meta in acknowledged if at < moment} - found.keys()
        assert not lost
        assert all(said[meta] == body for meta, body in found.items())
