"""A short frame: few small records, without what the receiver knows (docs/protocol.md, 5.3). ::

    offset  size  field
    0       1     0x21: version 2, suite 1
    1       4     the epoch's first bytes
    5       1-9   number of the first record, LEB128
    ...     8     the chain hash after the last record, its first bytes
    ...           zstd frame without magic number, with content size, of msgpack array of bin

The topic says which stream it is, and the chain hash binds epoch, node, stream, number and records
to the place at which the receiver stands; elsewhere a short frame is not taken, and its records
come again in a whole one.
"""

from typing import Final, NamedTuple

import msgspec
import zstandard

from . import chain
from .errors import FrameError
from .frame import MAX_RECORDS, MAX_SEQ, Frame
from .identity import Epoch
from .marks import Position

SHORT: Final = 2
"""Of the frame's versions: what ``Welcome.frames`` says."""

MAX_SHORT_BYTES: Final = 4 << 10
"""Of the records; in more than that a whole header is little."""

_MAX_PLAIN: Final = MAX_SHORT_BYTES + 5 * MAX_RECORDS + 3
_FIRST_BYTE: Final = 0x21
_EPOCH_BYTES: Final = 4
_HASH_BYTES: Final = 8
_MAX_NUMBER_BYTES: Final = 9
_ZSTD_MAGIC: Final = zstandard.MAGIC_NUMBER.to_bytes(4, "little")
_LEVEL: Final = 19

DICTIONARY: Final = (
    b"\x96\xc4\x10\x01\xabalarm.ended\x01\x00\xcf\x00\x00\x01\xc4G\x83\xa8alarm_id\xd9 "
    b"\xa6reason\xa4over\xa5at_ms\xcf\x00\x00\x01\x96\xc4\x10\x01"
    b"\xadalarm.lowered\x01\x00\xcf\x00\x00\x01\xc4X\x84\xa8alarm_id\xd9 \xa8severity"
    b"\xa6urgent\xa6causes\x91\xa4spo2\xa5at_ms\xcf\x00\x00\x01\x96\xc4\x10\x01"
    b"\xb2alarm.acknowledged\x01\x00\xcf\x00\x00\x01\xc4u\x84\xa8alarm_id\xd9 \xa2by\x82"
    b"\xa7account\xd9 \xa4name\xa0\xa4note\xa0\xa5at_ms\xcf\x00\x00\x01\x96\xc4\x10\x01"
    b"\xacalarm.raised\x01\x00\xcf\x00\x00\x01\xc5\x01-\x8b\xa9condition\xa5news2"
    b"\xa8severity\xa9emergency\xa6causes\x93\xabrespiration\xa6oxygen\xadconsciousness"
    b"\xaapatient_id\xd9 \xa9device_id\xd9 \xaareading_id\xd9 \xa8at_least\x05"
    b"\xa7missing\x92\xa8systolic\xabtemperature\xabmeasured_ms\xcf\x00\x00\x01"
    b"\xa9raised_ms\xcf\x00\x00\x01\xa8replaces\xa0\x96\xc4\x10\x01"
    b"\xaevitals.reading\x01\x00\xcf\x00\x00\x01\xc5\x01\xbd\x8b\xaapatient_id\xd9 "
    b"\xa9device_id\xd9 \xaamessage_id\xa6m-0000\xacmeasurements\x96\x82\xa9parameter"
    b"\xabrespiration\xa5value\xcb@\x00\x00\x00\x00\x00\x82\xa9parameter\xa8systolic"
    b"\xa5value\xcb@\x00\x00\x00\x00\x00\x82\xa9parameter\xa9diastolic"
    b"\xa5value\xcb@\x00\x00\x00\x00\x00\x82\xa9parameter\xabtemperature"
    b"\xa5value\xcb@\x00\x00\x00\x00\x00\x82\xa9parameter\xa4spo2"
    b"\xa5value\xcb@\x00\x00\x00\x00\x00\x82\xa9parameter\xa5pulse"
    b"\xa5value\xcb@\x00\x00\x00\x00\x00\xa9device_ms\xcf\x00\x00\x01"
    b"\xa7sent_ms\xcf\x00\x00\x01\xabreceived_ms\xcf\x00\x00\x01"
    b"\xaccorrected_ms\xcf\x00\x00\x01\xa9offset_ms\x00\xa5clock\xa4good"
    b"\xaaentered_by\xc0\x91\xc4\xff\x96\xc4\x10\x01"
    b"\xadvitals.series\x01\x00\xcf\x00\x00\x01\xc49\x83\xa6device\xc4\x10"
    b"\xabreceived_ms\xcf\x00\x00\x01\xa7samples\xc4"
)
"""What small records have in common, for zstd to refer to: kinds and fields, the likeliest last.
Another one is another version of the frame.
"""


class Short(NamedTuple):
    """A short frame as it came; ``place`` makes a whole one of it."""

    epoch: bytes
    first: int
    after: bytes
    records: tuple[bytes, ...]

    def of(self, epoch: Epoch) -> bool:
        """Whether it is of this epoch."""
        return epoch.startswith(self.epoch)

    def place(self, epoch: Epoch, stream: str, mark: Position) -> Frame:
        """As a whole frame, for a stream that stands at ``mark``.

        If it does not go on from there its ``before`` is empty, which no history is.
        """
        before = b""
        if self.first == mark.seq + 1:
            *_, after = chain.walk(mark.hash, self.records)
            before = mark.hash if after.startswith(self.after) else b""
        return Frame(epoch, stream, self.first, before, self.records)


def is_short(wire: bytes) -> bool:
    """Whether these may be the bytes of a short frame, and are none of a whole one."""
    return wire[:1] == bytes((_FIRST_BYTE,))


class ShortCodec:
    """Short frames to bytes and back. Holds the compressor's state: one codec per thread."""

    def __init__(self) -> None:
        known = zstandard.ZstdCompressionDict(DICTIONARY, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
        plain = zstandard.FORMAT_ZSTD1_MAGICLESS
        parameters = zstandard.ZstdCompressionParameters.from_level(
            _LEVEL, format=plain, write_content_size=1, write_checksum=0, write_dict_id=0
        )
        self._compressor = zstandard.ZstdCompressor(dict_data=known, compression_params=parameters)
        self._decompressor = zstandard.ZstdDecompressor(dict_data=known, format=plain)
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(tuple[bytes, ...])

    def encode(self, frame: Frame) -> bytes:
        """The frame's bytes; ValueError for one that is too large, or none."""
        if not 1 <= len(frame.records) <= MAX_RECORDS or not 1 <= frame.first <= MAX_SEQ:
            raise ValueError(f"a frame carries 1 to {MAX_RECORDS} records from a number from 1")
        if sum(map(len, frame.records)) > MAX_SHORT_BYTES:
            raise ValueError("these records are no short frame")
        *_, after = chain.walk(frame.before, frame.records)
        head = bytes((_FIRST_BYTE,)) + frame.epoch[:_EPOCH_BYTES] + _leb128(frame.first)
        plain = self._encoder.encode(frame.records)
        return head + after[:_HASH_BYTES] + self._compressor.compress(plain)

    def decode(self, wire: bytes) -> Short:
        """A frame read back; FrameError for every input that ``encode`` cannot have made."""
        if not is_short(wire):
            raise FrameError("not a short frame")
        first, at = _number(wire, 1 + _EPOCH_BYTES)
        after, body = wire[at : at + _HASH_BYTES], wire[at + _HASH_BYTES :]
        if not 1 <= first <= MAX_SEQ or len(after) != _HASH_BYTES:
            raise FrameError(f"a short frame from number {first}")
        records = self._unpack(body)
        if not 1 <= len(records) <= MAX_RECORDS:
            raise FrameError(f"a short frame of {len(records)} records")
        return Short(wire[1 : 1 + _EPOCH_BYTES], first, after, records)

    def _unpack(self, body: bytes) -> tuple[bytes, ...]:
        try:
            size = zstandard.get_frame_parameters(_ZSTD_MAGIC + body).content_size
            if not 0 < size <= _MAX_PLAIN:
                raise FrameError(f"a short frame's body of {size} bytes")
            plain = self._decompressor.decompress(body, allow_extra_data=False)
            return self._decoder.decode(plain)
        except (ValueError, zstandard.ZstdError) as error:
            raise FrameError(f"the short frame's body: {error}") from error


def _leb128(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _number(wire: bytes, at: int) -> tuple[int, int]:
    """LEB128 in its least form, and where it ends."""
    found = 0
    for count, byte in enumerate(wire[at : at + _MAX_NUMBER_BYTES]):
        found |= (byte & 0x7F) << 7 * count
        if byte < 0x80:
            if count and not byte:
                break
            return found, at + count + 1
    raise FrameError("a short frame's number has no end")
