"""Frames: what was written comes back, and whatever else comes is a FrameError."""

import msgspec
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from lianzhen_protocol.errors import FrameError
from lianzhen_protocol.frame import (
    MAX_PLAIN_BYTES,
    MAX_RECORDS,
    MAX_SEQ,
    MAX_WIRE_BYTES,
    Frame,
    FrameCodec,
)
from lianzhen_protocol.identity import Epoch

CODEC = FrameCodec()
names = st.from_regex(r"[a-z][a-z0-9._-]{0,63}", fullmatch=True)
frames = st.builds(
    Frame,
    epoch=st.binary(min_size=16, max_size=16).map(Epoch),
    stream=names,
    first=st.integers(1, MAX_SEQ),
    before=st.binary(min_size=32, max_size=32),
    records=st.lists(st.binary(max_size=200), min_size=1, max_size=MAX_RECORDS).map(tuple),
)
EXAMPLE = Frame(Epoch(bytes(16)), "vitals.ward-2", 7, bytes(32), (b"a" * 300, b"", b"c"))
HEADER = 63


def with_body(plain: bytes, *, checksum: bool = True, size: bool = True) -> bytes:
    """EXAMPLE's header and name before another body."""
    compressor = zstandard.ZstdCompressor(write_checksum=checksum, write_content_size=size)
    head = CODEC.encode(EXAMPLE)[: HEADER + len(EXAMPLE.stream)]
    return head + compressor.compress(plain)


@given(frames)
def test_a_frame_comes_back_as_it_was(frame: Frame) -> None:
    assert CODEC.decode(CODEC.encode(frame)) == frame


@given(st.binary(max_size=400))
def test_arbitrary_bytes_are_a_frame_error(wire: bytes) -> None:
    with pytest.raises(FrameError):
        CODEC.decode(wire)


@given(st.binary(max_size=300))
def test_an_arbitrary_tail_after_a_good_header_is_a_frame_error(tail: bytes) -> None:
    head = CODEC.encode(EXAMPLE)[: HEADER + len(EXAMPLE.stream)]
    with pytest.raises(FrameError):
        CODEC.decode(head + tail)


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_changed_byte_is_an_error_or_changes_only_the_header(at: int, mask: int) -> None:
    wire = bytearray(CODEC.encode(EXAMPLE))
    wire[at % len(wire)] ^= mask
    try:
        frame = CODEC.decode(bytes(wire))
    except FrameError:
        return
    assert frame.records == EXAMPLE.records


def test_a_frame_cut_off_at_any_byte_is_a_frame_error() -> None:
    wire = CODEC.encode(EXAMPLE)
    for length in range(len(wire)):
        with pytest.raises(FrameError):
            CODEC.decode(wire[:length])


def test_bytes_after_the_frame_are_a_frame_error() -> None:
    with pytest.raises(FrameError):
        CODEC.decode(CODEC.encode(EXAMPLE) + b"\0")


def test_a_body_that_inflates_beyond_the_limit_is_refused_before_it_is_inflated() -> None:
    with pytest.raises(FrameError, match="a body of"):
        CODEC.decode(with_body(bytes(MAX_PLAIN_BYTES + 1)))


def test_a_body_that_hides_its_size_or_has_no_checksum_is_refused() -> None:
    plain = msgspec.msgpack.encode(EXAMPLE.records)
    assert CODEC.decode(with_body(plain)) == EXAMPLE
    with pytest.raises(FrameError):
        CODEC.decode(with_body(plain, size=False))
    with pytest.raises(FrameError):
        CODEC.decode(with_body(plain, checksum=False))


@pytest.mark.parametrize(
    "plain",
    [b"\xdd\xff\xff\xff\xff", b"\xdc\xff\xff", b"\x93\xc6\xff\xff\xff\xff", b"\x91" * 5000],
    ids=["array of 4 Gi", "array of 64 Ki", "bin of 4 GiB", "nested 5000 deep"],
)
def test_a_body_that_claims_more_than_it_has_is_a_frame_error(plain: bytes) -> None:
    with pytest.raises(FrameError):
        CODEC.decode(with_body(plain))


def test_a_count_that_differs_from_the_body_is_a_frame_error() -> None:
    with pytest.raises(FrameError, match="says 3 records"):
        CODEC.decode(with_body(msgspec.msgpack.encode((b"a", b"b"))))


def test_too_large_is_told_from_malformed() -> None:
    with pytest.raises(FrameError) as caught:
        CODEC.decode(b"LZ" + bytes(MAX_WIRE_BYTES))
    assert caught.value.code == "frame-too-large"


def test_another_version_or_suite_is_told_from_malformed() -> None:
    for at in (2, 3):
        wire = bytearray(CODEC.encode(EXAMPLE))
        wire[at] = 2
        with pytest.raises(FrameError) as caught:
            CODEC.decode(bytes(wire))
        assert caught.value.code == "frame-version"


@pytest.mark.parametrize(
    "frame",
    [
        EXAMPLE._replace(records=()),
        EXAMPLE._replace(records=(b"",) * (MAX_RECORDS + 1)),
        EXAMPLE._replace(records=(bytes(MAX_PLAIN_BYTES),)),
        EXAMPLE._replace(first=0),
        EXAMPLE._replace(first=MAX_SEQ + 1),
        EXAMPLE._replace(before=bytes(31)),
        EXAMPLE._replace(epoch=Epoch(bytes(15))),
        EXAMPLE._replace(stream="Vitals"),
        EXAMPLE._replace(stream=""),
    ],
)
def test_what_the_decoder_would_refuse_is_not_encoded(frame: Frame) -> None:
    with pytest.raises(ValueError, match=r"."):
        CODEC.encode(frame)
