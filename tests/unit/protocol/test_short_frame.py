"""Short frames: what was written comes back at its place; all else is refused or taken nowhere."""

import random

import msgspec
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from lianzhen_protocol import chain, short_frame
from lianzhen_protocol.errors import FrameError
from lianzhen_protocol.frame import MAX_SEQ, Frame
from lianzhen_protocol.identity import Epoch, uuid7
from lianzhen_protocol.kinds import encode
from lianzhen_protocol.marks import Position
from lianzhen_protocol.receiver import Accepted, receive
from lianzhen_protocol.series import VitalsSeries, pack
from lianzhen_protocol.short_frame import MAX_SHORT_BYTES, ShortCodec
from unit.vitals.test_series import AT, RECEIVED, minute

CODEC = ShortCodec()
frames = st.builds(
    Frame,
    epoch=st.binary(min_size=16, max_size=16).map(Epoch),
    stream=st.just("vitals.readings"),
    first=st.integers(1, MAX_SEQ),
    before=st.binary(min_size=32, max_size=32),
    records=st.lists(st.binary(max_size=200), min_size=1, max_size=20).map(tuple),
)
EXAMPLE = Frame(Epoch(bytes(16)), "vitals.readings", 7, bytes(32), (b"a" * 300, b"", b"c"))


@given(frames)
def test_a_frame_comes_back_at_its_place(frame: Frame) -> None:
    short = CODEC.decode(CODEC.encode(frame))
    assert short.of(frame.epoch)
    mark = Position(frame.first - 1, frame.before)
    assert short.place(frame.epoch, frame.stream, mark) == frame
    *_, after = chain.walk(frame.before, frame.records)
    assert receive(mark, frame) == Accepted(frame.first, frame.records, Position(frame.last, after))


@given(frames, st.binary(min_size=32, max_size=32), st.integers(0, 30))
def test_at_another_place_nothing_is_taken(frame: Frame, other: bytes, seq: int) -> None:
    short = CODEC.decode(CODEC.encode(frame))
    mark = Position(seq, other)
    if (seq + 1, other) != (frame.first, frame.before):
        placed = short.place(frame.epoch, frame.stream, mark)
        assert not isinstance(receive(mark, placed), Accepted)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_a_frame_error(tail: bytes) -> None:
    for wire in (tail, b"\x21" + tail, CODEC.encode(EXAMPLE)[:14] + tail):
        with pytest.raises(FrameError):
            CODEC.decode(wire)


@given(st.integers(0, 400))
def test_a_frame_that_was_cut_is_a_frame_error(cut: int) -> None:
    wire = CODEC.encode(EXAMPLE)
    with pytest.raises(FrameError):
        CODEC.decode(wire[: cut % len(wire)])


def test_a_changed_byte_is_an_error_or_is_taken_nowhere() -> None:
    wire = CODEC.encode(EXAMPLE)
    mark = Position(6, bytes(32))
    for at in range(len(wire)):
        changed = wire[:at] + bytes((wire[at] ^ 1,)) + wire[at + 1 :]
        try:
            short = CODEC.decode(changed)
        except FrameError:
            continue
        if short.of(EXAMPLE.epoch):
            placed = short.place(EXAMPLE.epoch, EXAMPLE.stream, mark)
            verdict = receive(mark, placed)
            assert not isinstance(verdict, Accepted) or verdict.records == EXAMPLE.records


def test_a_small_frame_claims_no_much_memory() -> None:
    """The size that it declares is believed by nobody."""
    known = zstandard.ZstdCompressionDict(
        short_frame.DICTIONARY, dict_type=zstandard.DICT_TYPE_RAWCONTENT
    )
    parameters = zstandard.ZstdCompressionParameters.from_level(
        19, format=zstandard.FORMAT_ZSTD1_MAGICLESS, write_content_size=1, write_checksum=0
    )
    bomb = zstandard.ZstdCompressor(dict_data=known, compression_params=parameters)
    body = bomb.compress(msgspec.msgpack.encode((bytes(1 << 20),)))
    assert len(body) < 200
    with pytest.raises(FrameError, match="bytes"):
        CODEC.decode(CODEC.encode(EXAMPLE)[:14] + body)


@pytest.mark.parametrize(
    "frame",
    [
        EXAMPLE._replace(records=()),
        EXAMPLE._replace(first=0),
        EXAMPLE._replace(records=(b"a" * (MAX_SHORT_BYTES + 1),)),
        EXAMPLE._replace(records=(b"",) * 101),
    ],
)
def test_what_is_no_short_frame_is_not_written(frame: Frame) -> None:
    with pytest.raises(ValueError, match="frame"):
        CODEC.encode(frame)


def test_a_lone_minute_of_five_parameters_takes_less_than_150_bytes() -> None:
    chance = random.Random(2)
    sizes = []
    for number in range(20):
        blob = pack(minute(chance), RECEIVED)
        body = VitalsSeries(device=chance.randbytes(16), received_ms=RECEIVED, samples=blob)
        entry = encode(body, uuid7(AT, chance.randbytes(10)), RECEIVED)
        before = chance.randbytes(32)
        frame = Frame(Epoch(bytes(16)), "vitals.readings", 30_000 + number, before, (entry,))
        sizes.append(len(CODEC.encode(frame)))
    assert max(sizes) <= 150, sizes
