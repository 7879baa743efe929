"""Part 10 files packed for the line, and back byte for byte.

Pixels that came uncompressed become JPEG-LS where they are grey, and reversible JPEG 2000 with its
colour transform (RCT) where they are RGB; all other bytes of the file go as they are, so nothing of
it can be lost, SOP Instance UID and misdeclared text included. Whoever packs unpacks at once and
compares; whoever unpacks compares with the hash in the manifest. What does not come out the same
is never packed.

::

    LZP1 | msgpack [form, head, tail, [[low, stream], ...]]
    form           [rows, columns, samples, bytes a sample, planar]

``head`` and ``tail`` are zstd; ``low`` is taken off a frame's values, so that a signed one, or one
with an offset, needs no more bits than it has values. Decoders are others' code and run on hostile
bytes: in the worker of ``preview`` only.
"""

import io
from typing import Any, Final

import msgspec
import zstandard

from lianzhen_protocol.dicomset import EXPLICIT, IMPLICIT, PIXELS

MAX_BYTES: Final = 256 << 20
"""Of a file that is packed: it is there several times meanwhile."""
_MAGIC: Final = b"LZP1"
_PLAIN: Final = frozenset({IMPLICIT, EXPLICIT})
_WORTH: Final = 0.95
_LEVEL: Final = 9
_MAX_FRAMES: Final = 1 << 16
_FEWEST_BITS: Final = 2  # JPEG-LS (ISO/IEC 14495-1, C.2.2)
_SRGB: Final = 1  # openjpeg's name for RGB, to which it applies the RCT


class NotPacked(ValueError):
    """It goes as it is, or cannot be unpacked; the text says why in a word or two."""


class _Form(msgspec.Struct, frozen=True, array_like=True):
    """Of the pixels: as they lie in the file, little-endian."""

    rows: int
    columns: int
    samples: int
    width: int
    """Bytes a sample."""
    planar: int
    """1: plane after plane."""

    @property
    def frame(self) -> int:
        return self.rows * self.columns * self.samples * self.width

    @property
    def shape(self) -> tuple[int, ...]:
        if self.samples == 1:
            return self.rows, self.columns
        planes = self.samples, self.rows, self.columns
        return planes if self.planar else (self.rows, self.columns, self.samples)


class _Packed(msgspec.Struct, frozen=True, array_like=True):
    form: _Form
    head: bytes
    tail: bytes
    frames: list[tuple[int, bytes]]


def pack(file: bytes) -> bytes:
    """The packed form, proved to come out as ``file``; NotPacked if there is none worth having."""
    if len(file) > MAX_BYTES:
        raise NotPacked("too large")
    image, begin, length = _pixels_of(file)
    form, is_rgb = _form_of(image)
    frames = min(int(image.get("NumberOfFrames") or 1), length // max(form.frame, 1))
    if not 0 < frames <= _MAX_FRAMES:
        raise NotPacked("pixels and rows do not fit")
    encode = _jpeg_ls if form.samples == 1 else _jpeg_2000
    end = begin + frames * form.frame
    squeeze = zstandard.ZstdCompressor(level=_LEVEL).compress
    body = _Packed(
        form,
        squeeze(file[:begin]),
        squeeze(file[end:]),
        [encode(file[at : at + form.frame], form, is_rgb) for at in range(begin, end, form.frame)],
    )
    packed = _MAGIC + msgspec.msgpack.encode(body)
    if len(packed) > len(file) * _WORTH:
        raise NotPacked("nothing gained")
    if unpack(packed, len(file)) != file:
        raise NotPacked("it does not come out the same")
    return packed


def unpack(packed: bytes, size: int) -> bytes:
    """The file of ``size`` bytes; NotPacked if these are no packed form of one."""
    try:
        if size > MAX_BYTES or packed[: len(_MAGIC)] != _MAGIC:
            raise NotPacked("not a packed image")
        found = msgspec.msgpack.decode(packed[len(_MAGIC) :], type=_Packed)
        form, open_ = found.form, zstandard.ZstdDecompressor().decompress
        if not 0 < form.frame * len(found.frames) <= size or len(found.frames) > _MAX_FRAMES:
            raise NotPacked("sizes do not fit")
        parts = [open_(found.head, max_output_size=size)]
        parts += [_decoded(low, stream, form) for low, stream in found.frames]
        parts.append(open_(found.tail, max_output_size=size))
    except (msgspec.MsgspecError, zstandard.ZstdError) as error:
        raise NotPacked("damaged") from error
    if sum(map(len, parts)) != size:
        raise NotPacked("sizes do not fit")
    return b"".join(parts)


def _pixels_of(file: bytes) -> tuple[Any, int, int]:
    """The data set, and where its pixels begin and how long they are."""
    from pydicom import dcmread

    image = dcmread(io.BytesIO(file))
    if str(image.file_meta.TransferSyntaxUID) not in _PLAIN:
        raise NotPacked("compressed already")
    element: Any = image.get_item(PIXELS) if PIXELS in image else None
    if not isinstance(getattr(element, "value", None), bytes):
        raise NotPacked("no pixels")
    return image, element.value_tell, len(element.value)


def _form_of(image: Any) -> tuple[_Form, bool]:
    """How the pixels lie, and whether they are RGB."""
    samples, bits = int(image.get("SamplesPerPixel") or 1), int(image.get("BitsAllocated") or 0)
    kind = str(image.get("PhotometricInterpretation"))
    known = (samples == 1 and bits in (8, 16)) or (samples == 3 and bits == 8)
    if not known or kind.startswith(("YBR_FULL_422", "YBR_PARTIAL")):
        raise NotPacked("an unusual form of pixels")
    planar = int(image.get("PlanarConfiguration") or 0)
    rows, columns = int(image.get("Rows") or 0), int(image.get("Columns") or 0)
    return _Form(rows, columns, samples, bits // 8, planar), kind == "RGB"


def _jpeg_ls(frame: bytes, form: _Form, _is_rgb: bool) -> tuple[int, bytes]:
    import jpeg_ls
    import numpy as np

    values = np.frombuffer(frame, dtype=f"<u{form.width}")
    signed = values.view(f"<i{form.width}")
    if int(np.ptp(signed.astype(np.int32))) < int(np.ptp(values.astype(np.int32))):
        values = signed
    low = int(values.min())
    above = values.astype(np.int32) - low
    bits = max(int(above.max()).bit_length(), _FEWEST_BITS)
    content = above.astype(np.uint8 if bits <= 8 else np.uint16).tobytes()
    return low, bytes(jpeg_ls.encode_buffer(content, form.rows, form.columns, 1, bits))


def _jpeg_2000(frame: bytes, form: _Form, is_rgb: bool) -> tuple[int, bytes]:
    import numpy as np
    from openjpeg.utils import encode_array

    pixels = np.frombuffer(frame, dtype=np.uint8).reshape(form.shape)
    if form.planar:
        pixels = np.ascontiguousarray(pixels.transpose(1, 2, 0))
    kind = _SRGB if is_rgb else 0
    stream = encode_array(pixels, bits_stored=8, photometric_interpretation=kind, use_mct=is_rgb)
    return 0, bytes(stream)


def _decoded(low: int, stream: bytes, form: _Form) -> bytes:
    """A frame's bytes as they lay in the file."""
    import numpy as np

    if form.samples == 1:
        import jpeg_ls

        found = jpeg_ls.decode(np.frombuffer(stream, dtype=np.uint8))
        values = (found.astype(np.int64) + low).astype(f"<u{form.width}")
    else:
        from openjpeg.utils import decode

        values = decode(stream)
        if form.planar:
            values = values.transpose(2, 0, 1)
    if values.shape != form.shape or values.dtype.itemsize != form.width:
        raise NotPacked("sizes do not fit")
    content: bytes = values.tobytes()
    return content
