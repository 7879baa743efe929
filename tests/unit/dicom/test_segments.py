"""The segment log: what was appended is there, whatever the power, the disk or a thief does."""

import itertools
import os
import random
import struct
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lab import wait_until
from lianzhen_edge.dicom import segment_log
from lianzhen_edge.dicom.segment_log import Disk, Draft, SegmentLog
from lianzhen_edge.dicom.segments import (
    BLOCK,
    LogFailed,
    LogFull,
    Place,
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


def test_an_image_of_a_gigabyte_is_too_large(
    tmp_path: Path, keys: FileKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segment_log, "PAGE_BYTES", 1000)
    monkeypatch.setattr(segment_log, "MAX_BODY_BYTES", 10_000)
    with pytest.raises(LogFull, match="more than 10000"):
        opened(tmp_path / "log", keys).append(b"1", bytes(20_000))
    assert os.listdir(tmp_path / "log") == []


@pytest.fixture
def small_page(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(segment_log, "PAGE_BYTES", 10_000)
    return 10_000


@pytest.mark.parametrize("size", [10_000, 10_001, 20_000, 123_456])
def test_what_outgrows_its_page_has_a_segment_of_its_own(
    tmp_path: Path, keys: FileKeys, small_page: int, size: int
) -> None:
    folder, body = tmp_path / "log", os.urandom(size)
    log = opened(folder, keys)
    log.append(b"small", b"before")
    draft = Draft(log)
    for held, meta in ((False, b"large"), (True, b"held" * 1000)):
        draft.begin()
        for at in range(0, size, 3000):
            piece = body[at : at + 3000]
            while piece:
                room = draft.room()[: len(piece)]
                room[:] = piece[: len(room)]
                draft.took(len(room))
                assert draft.last(len(room)) == piece[: len(room)]
                piece = piece[len(room) :]
        assert draft.size == size
        place = draft.commit(meta, held=held)
        assert SegmentReader(folder, keys).body(place) == body
        assert SegmentReader(folder, keys).meta(place).held == held
    assert log.append(b"small", b"after").segment == 1  # it goes on where it was
    assert len(content(folder, keys)) == 3
    assert len(segments(folder)) == (3 if size > small_page else 1)


@pytest.mark.parametrize("how", ["forgotten", "write_error", "sync_error"])
def test_a_large_one_that_was_not_committed_leaves_nothing(
    tmp_path: Path, keys: FileKeys, small_page: int, how: str
) -> None:
    before = len(os.listdir("/proc/self/fd"))
    disk = BadDisk()
    log = opened(tmp_path / "log", keys, disk)
    draft = Draft(log)
    draft.begin()
    for _ in range(3):
        draft.took(len(draft.room()))
    if how == "forgotten":
        draft.close()
    else:
        setattr(disk, how, OSError(28, "No space left on device"))
        with pytest.raises(LogFull):
            draft.commit(b"meta")
    assert os.listdir(tmp_path / "log") == []
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_segment_is_in_use_until_its_last_writer_is_done(tmp_path: Path, keys: FileKeys) -> None:
    disk, folder = SlowDisk(), tmp_path / "log"
    disk.gate.set()
    log, reader = opened(folder, keys, disk), SegmentReader(folder, keys)
    log.append(b"1", b"one")
    assert reader.in_use(1)
    disk.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(log.append, b"2", b"two")
        while log._written < 2:
            assert not waiting.done()
        with log._lock:
            log._room(SMALL)
        assert reader.in_use(1)  # another one is written to, but this one is not done
        disk.gate.set()
        assert waiting.result() == Place(1, 2 * BLOCK)
    assert not reader.in_use(1)
    assert reader.in_use(2)
    log.close()
    assert not reader.in_use(2)
    assert not reader.in_use(9)


def test_spares_are_made_ahead_and_taken_and_found_again(tmp_path: Path, keys: FileKeys) -> None:
    folder = tmp_path / "log"
    log = SegmentLog(folder, keys, segment_bytes=SMALL, spares=2)
    wait_until("two spares", lambda: len(log._spares._found) == 2)
    for number in range(2):
        log.append(b"%d" % number, bytes(SMALL - 4 * BLOCK))
    log.close()
    assert len(segments(folder)) == 2
    again = SegmentLog(folder, keys, segment_bytes=SMALL, spares=1)
    again.append(b"3", b"x")
    again.close()
    assert len(content(folder, keys)) == 3
    assert not list(folder.glob(".*"))


def test_no_spare_is_made_where_room_is_short(tmp_path: Path, keys: FileKeys) -> None:
    disk = BadDisk()
    disk.free = 5 * SMALL
    log = SegmentLog(tmp_path / "log", keys, disk=disk, segment_bytes=SMALL, spares=2)
    log.append(b"1", b"one")
    log.close()
    assert not list((tmp_path / "log").glob("*.spare"))


def test_records_of_an_earlier_release_are_read(tmp_path: Path, keys: FileKeys) -> None:
    """Their meta lies before the body, and nothing else differs."""
    folder = tmp_path / "log"
    log = opened(folder, keys)
    place = log.append(b"meta", b"the body", held=True)
    path = segment_path(folder, 1)
    raw = bytearray(path.read_bytes())
    head = struct.Struct("<8s16sQHIQ")
    magic, nonce, at, flags, meta, body = head.unpack_from(raw, place.offset)
    old = head.pack(magic, nonce, at, flags & 1, meta, body)
    begin = place.offset + head.size + 4
    parts = raw[begin : begin + body], raw[begin + body : begin + body + meta]
    raw[place.offset : begin] = old + struct.pack("<I", zlib.crc32(old))
    raw[begin : begin + body + meta] = parts[1] + parts[0]
    path.write_bytes(raw)
    assert SegmentReader(folder, keys).meta(place).held
    assert content(folder, keys) == {b"meta": b"the body"}


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
        self.gate.wait(60)
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
    assert disk.syncs <= segment_log._MOST_SYNCS + 2
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
