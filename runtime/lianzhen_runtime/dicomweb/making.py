"""Images made over for whoever asks: in another transfer syntax, or as a picture.

``work`` is a job of ``preview``'s worker, as decoders and encoders are others' code. Its file is
whole, to be kept in another transfer syntax; or has a single frame (``frames.single``).
"""

import asyncio
import io
from typing import Any, Final, Literal

import msgspec

from lianzhen_protocol.dicomset import EXPLICIT
from lianzhen_runtime.errors import LianzhenError
from lianzhen_runtime.preview import OWN, NoPreview, PreviewWorker, eight_bit

from .media import JPEG_LS

TARGETS: Final = (EXPLICIT, JPEG_LS)
"""Transfer syntaxes that an image is made over into."""

MAX_FILE_BYTES: Final = 256 << 20
"""Of a file that is made over as a whole."""
MAX_SIDE: Final = 4096
_WAITING: Final = 64


class NotConverted(LianzhenError):
    """This image cannot be had in this form; the text says why in a word or two."""

    code = "not-convertible"
    http_status = 406


class Busy(LianzhenError):
    """Too many are being made over at this moment."""

    code = "busy"
    http_status = 503
    retry_after = 2

    def __init__(self) -> None:
        super().__init__("too many images are being made over now; try again in a moment")


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What is wanted of a file."""

    work: Literal["file", "frame", "picture"]
    syntax: str = EXPLICIT
    """``file`` and ``frame``: the transfer syntax to be."""
    form: Literal["JPEG", "PNG"] = "JPEG"
    quality: int = 90
    window: tuple[float, float, str] | None = None
    """Centre, width, function of VOI LUT; None: the image's own."""
    side: tuple[int, int] | None = None
    """Most columns and rows of a picture."""


class Workers:
    """A few workers of ``preview``, for what somebody waits for."""

    def __init__(self, count: int = 2) -> None:
        self._all = [PreviewWorker() for _ in range(count)]
        self._idle = list(self._all)
        self._turn = asyncio.Semaphore(count)
        self._waiting = 0

    async def do(self, order: Order, file: bytes) -> bytes:
        """What was ordered; NotConverted, or Busy."""
        if self._waiting >= _WAITING:
            raise Busy
        self._waiting += 1
        try:
            async with self._turn:
                worker = self._idle.pop()
                try:
                    return await worker.make(msgspec.json.encode(order), file)
                finally:
                    self._idle.append(worker)
        except NoPreview as error:
            raise NotConverted(str(error)) from error
        finally:
            self._waiting -= 1

    async def close(self) -> None:
        """End them."""
        for worker in self._all:
            await worker.close()


# -- inside the worker


def work(order: bytes, file: bytes) -> bytes:
    """What was ordered; NoPreview says why not."""
    return _work(msgspec.json.decode(order, type=Order), file)


def _work(order: Order, file: bytes) -> bytes:
    from pydicom import dcmread

    image = dcmread(io.BytesIO(file))
    try:
        if order.work == "file":
            return _file(image, order.syntax)
        if "NumberOfFrames" in image:
            image.NumberOfFrames = 1
        if order.work == "frame":
            return _frame(image, order.syntax)
        return _picture(image, order)
    except (RuntimeError, NotImplementedError) as error:
        raise NoPreview("no decoder for this transfer syntax") from error


def _file(image: Any, syntax: str) -> bytes:
    """A Part 10 file in another transfer syntax; no other element changes but those of pixels."""
    from pydicom import dcmwrite
    from pydicom.uid import UID

    if image.file_meta.TransferSyntaxUID.is_compressed:
        image.decompress(generate_instance_uid=False)
    if syntax == JPEG_LS:
        if "PixelData" not in image:
            raise NoPreview("no pixels")
        before = image.pixel_array.tobytes()
        image.compress(UID(syntax), generate_instance_uid=False)
        if image.pixel_array.tobytes() != before:
            raise NoPreview("it does not come out the same")
    image.file_meta.TransferSyntaxUID = UID(syntax)
    out = io.BytesIO()
    dcmwrite(out, image, implicit_vr=False, little_endian=True, enforce_file_format=True)
    return out.getvalue()


def _frame(image: Any, syntax: str) -> bytes:
    content = _plain(image)
    if syntax == EXPLICIT:
        return content
    return _jpeg_ls(image, content)


def _plain(image: Any) -> bytes:
    """A frame's samples as they are without compression, little-endian."""
    import numpy as np
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import UID

    syntax = UID(image.file_meta.TransferSyntaxUID)
    kind = str(image.get("PhotometricInterpretation"))
    if not syntax.is_encapsulated:
        content: bytes = image.PixelData
        return _turned(content, image) if not syntax.is_little_endian else content
    # JPEG's own colours are given as RGB, as every decoder does; none else are touched.
    is_raw = not (syntax.endswith((".4.50", ".4.51")) and kind.startswith("YBR"))
    array, _ = get_decoder(syntax).as_array(image, raw=is_raw, index=0)
    return np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<")).tobytes()


def _turned(content: bytes, image: Any) -> bytes:
    import numpy as np

    width = max(int(image.BitsAllocated) // 8, 2)
    found: bytes = np.frombuffer(content, dtype=f">u{width}").astype(f"<u{width}").tobytes()
    return found


def _jpeg_ls(image: Any, content: bytes) -> bytes:
    """Without loss, and proved so. A signed value goes as the bits that it has."""
    import jpeg_ls
    import numpy as np

    rows, columns = int(image.Rows), int(image.Columns)
    samples, allocated = int(image.get("SamplesPerPixel") or 1), int(image.BitsAllocated)
    planar = samples > 1 and int(image.get("PlanarConfiguration") or 0)
    kind = str(image.get("PhotometricInterpretation"))
    if allocated not in (8, 16) or planar or kind == "YBR_FULL_422":
        raise NoPreview("no JPEG-LS of such pixels")
    content = content[: rows * columns * samples * allocated // 8]
    values = np.frombuffer(content, dtype=f"<u{allocated // 8}")
    bits = max(int(values.max()).bit_length(), int(image.BitsStored), 2)
    mode = 2 if samples > 1 else 0
    stream = bytes(jpeg_ls.encode_buffer(content, rows, columns, samples, bits, 0, mode))
    if jpeg_ls.decode_pixel_data(stream)[0] != content:
        raise NoPreview("it does not come out the same")
    return stream + b"\0" * (len(stream) % 2)


def _picture(image: Any, order: Order) -> bytes:
    """As a person sees it."""
    from PIL import Image
    from pydicom.pixels.utils import pixel_array

    if "PixelData" not in image:
        raise NoPreview("no pixels")
    if order.window is not None:
        centre, width, function = order.window
        image.WindowCenter, image.WindowWidth = centre, width
        image.VOILUTFunction = function
        image.pop("VOILUTSequence", None)
    shown = eight_bit(image, pixel_array(image, index=0), OWN)
    picture = Image.fromarray(shown)
    picture.thumbnail(order.side or (MAX_SIDE, MAX_SIDE))
    out = io.BytesIO()
    if order.form == "JPEG":
        picture.save(out, "JPEG", quality=order.quality)
    else:
        picture.save(out, "PNG")
    return out.getvalue()
