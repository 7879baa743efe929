"""A frame: consecutive records of one stream (docs/protocol.md, 5).

The header is frozen: every later version begins with these bytes. ::

    offset  size  field
    0       2     "LZ"
    2       1     version of the frame, 1
    3       1     suite id: 1 = SHA-256 chain, Ed25519 signatures (docs/protocol.md, 8)
    4       16    epoch
    20      8     sequence number of the first record, from 1, big-endian
    28      2     number of records, from 1
    30      32    chain hash before the first record
    62      1     length of the stream's name
    63      n     the stream's name, ASCII
    63+n          zstd frame, content size and checksum present, of msgpack array of bin
"""

import struct
from typing import NamedTuple

import msgspec
import zstandard

from .chain import HASH_BYTES
from .errors import FrameError
from .identity import Epoch, epoch
from .topics import stream_name

VERSION = 1
SUITE = 1
MAX_RECORDS = 100
MAX_RECORD_BYTES = 1 << 20
"""A larger thing (an image, a recording) is not a record: it goes by the image upload."""

MAX_SEQ = (1 << 63) - 1 - MAX_RECORDS
"""No stream comes near it; a database's signed 64 bits hold it."""

TARGET_PLAIN_BYTES = 256 << 10
"""A frame is cut before it passes this many record bytes, unless one record alone does."""

MAX_PLAIN_BYTES = MAX_RECORD_BYTES + TARGET_PLAIN_BYTES
MAX_WIRE_BYTES = MAX_PLAIN_BYTES + (64 << 10)
"""What a broker must let through; a frame over this is refused unread."""

_MAGIC = b"LZ"
_HEADER = struct.Struct(f">2sBB16sQH{HASH_BYTES}sB")


class Frame(NamedTuple):
    """Consecutive records of one stream; ``before`` is the chain hash before ``records[0]``."""

    epoch: Epoch
    stream: str
    first: int
    before: bytes
    records: tuple[bytes, ...]

    @property
    def last(self) -> int:
        """Sequence number of the last record."""
        return self.first + len(self.records) - 1


def body_of(wire: bytes) -> bytes:
    """The packed records of a frame that was decoded before: what ``FrameCodec.pack`` made."""
    return wire[_HEADER.size + wire[_HEADER.size - 1] :]


class FrameCodec:
    """Frames to bytes and back. Holds the compressor's state: one codec per thread."""

    def __init__(self, level: int = 1) -> None:
        self._compressor = zstandard.ZstdCompressor(
            level=level, write_content_size=True, write_checksum=True
        )
        self._decompressor = zstandard.ZstdDecompressor()
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(tuple[bytes, ...])

    def encode(self, frame: Frame) -> bytes:
        """The frame's bytes; ValueError for a frame that its own decoder would refuse."""
        if not 1 <= len(frame.records) <= MAX_RECORDS:
            raise ValueError(f"a frame carries 1 to {MAX_RECORDS} records")
        if not 1 <= frame.first <= MAX_SEQ or len(frame.before) != HASH_BYTES:
            raise ValueError("a frame begins at a number from 1, with the hash before it")
        name = stream_name(frame.stream).encode("ascii")
        header = _HEADER.pack(
            *(_MAGIC, VERSION, SUITE, epoch(frame.epoch), frame.first),
            *(len(frame.records), frame.before, len(name)),
        )
        return header + name + self.pack(frame.records)

    def pack(self, records: tuple[bytes, ...]) -> bytes:
        """Records as a frame's body, and as the hub's log keeps them."""
        plain = self._encoder.encode(records)
        if len(plain) > MAX_PLAIN_BYTES:
            raise ValueError(f"{len(plain)} bytes of records do not fit a frame")
        return self._compressor.compress(plain)

    def unpack(self, body: bytes) -> tuple[bytes, ...]:
        """Records back from a body; FrameError if it is none."""
        try:
            declared = zstandard.get_frame_parameters(body)
            if not declared.has_checksum or not 0 < declared.content_size <= MAX_PLAIN_BYTES:
                raise FrameError(f"a body of {declared.content_size} bytes, or without checksum")
            plain = self._decompressor.decompress(body, allow_extra_data=False)
            return self._decoder.decode(plain)
        except (ValueError, zstandard.ZstdError) as error:
            raise FrameError(f"the frame's body: {error}") from error

    def decode(self, wire: bytes) -> Frame:
        """A frame read back; FrameError for every input that ``encode`` cannot have made.

        The size is checked before anything is decompressed, so a small frame cannot claim
        much memory.
        """
        if len(wire) > MAX_WIRE_BYTES:
            raise FrameError(f"a frame of {len(wire)} bytes", code="frame-too-large")
        if len(wire) < _HEADER.size or wire[:2] != _MAGIC:
            raise FrameError("not a frame: the header is short or foreign")
        _, version, suite, era, first, count, before, length = _HEADER.unpack_from(wire)
        if (version, suite) != (VERSION, SUITE):
            raise FrameError(f"frame version {version}, suite {suite}", code="frame-version")
        if not 1 <= first <= MAX_SEQ or not 1 <= count <= MAX_RECORDS:
            raise FrameError(f"a frame of {count} records from number {first}")
        try:
            stream = stream_name(wire[_HEADER.size : _HEADER.size + length].decode("ascii"))
        except ValueError as error:
            raise FrameError(f"the stream's name: {error}") from error
        records = self.unpack(wire[_HEADER.size + length :])
        if len(records) != count:
            raise FrameError(f"the header says {count} records, the body has {len(records)}")
        return Frame(Epoch(era), stream, first, before, records)
