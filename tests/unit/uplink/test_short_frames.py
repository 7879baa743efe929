"""A box sends short frames to a hub that reads them, and to no other."""

from pathlib import Path

import pytest

from lianzhen_edge.journal.journal import Journal
from lianzhen_protocol import hello as messages
from lianzhen_protocol.errors import FrameError
from lianzhen_protocol.frame import FrameCodec
from lianzhen_protocol.hello import Welcome
from lianzhen_protocol.marks import StreamMark
from lianzhen_protocol.short_frame import SHORT, ShortCodec, is_short
from lianzhen_runtime.keys import FileKeys
from support.fleet import until
from support.lab_fixtures import note, notes

from .test_wrong_status import COUNT, NODE, STREAM, Box, conversing


def frames(box: Box) -> list[bytes]:
    return [wire for topic, wire in box.line.said if "/stream/" in topic]


@pytest.mark.parametrize("read", [1, SHORT, SHORT + 1])
async def test_a_hub_gets_the_frames_that_it_reads(tmp_path: Path, read: int) -> None:
    keys = FileKeys(tmp_path / "keys")
    journal = await Journal.open(tmp_path / "journal.db", NODE, keys, lambda: 0)
    batch = notes(COUNT)
    await journal.put(STREAM, [each.entry for each in batch])
    box = Box(tmp_path, journal, batch)
    async with conversing(box, read):
        (first,) = frames(box)
        assert is_short(first) == (read >= SHORT)
        if is_short(first):
            found = ShortCodec().decode(first)
            frame = found.place(journal.epoch, STREAM, box.position(0))
            assert frame.before == box.position(0).hash
        else:
            frame = FrameCodec().decode(first)
        assert frame.records == tuple(each.entry for each in batch)

        mark = StreamMark(STREAM, box.position(2), 2, gap=True)  # it has two of them: all again
        await box.hears(box.signed(box.ack(2, marks=(mark,))))
        await until(lambda: len(frames(box)) == 2)
        again = FrameCodec().decode(frames(box)[1])
        assert (again.first, again.before) == (3, box.position(2).hash)

        large = note("x" * 5000)
        await journal.put(STREAM, [large.entry])
        await until(lambda: len(frames(box)) == 3)
        assert not is_short(frames(box)[2])
    await journal.close()


def test_a_hub_of_before_says_nothing_of_frames_and_reads_no_short_one() -> None:
    old = Welcome(session=bytes(16), protocol=1, now_ms=1, credit=1, marks=())
    assert b"frames" not in messages.encode(old)
    assert messages.decode(messages.encode(old)) == old
    with pytest.raises(FrameError):
        FrameCodec().decode(b"\x21" + bytes(80))
