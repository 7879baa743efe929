"""Previews: a windowed 8-bit JPEG of an image's middle frame, made in a process of its own.

``python -m lianzhen_edge.dicom.preview`` answers Part 10 files on standard input with JPEG on
standard output, each with its length before it, and ends with its parent. What a hostile image
does to a decoder, it does there.
"""

import asyncio
import io
import os
import resource
import struct
import sys
import warnings
from typing import Any, BinaryIO, Final

from lianzhen_runtime.child import own_command
from lianzhen_runtime.log import Log

QUALITY: Final = 75
MAX_SIDE: Final = 1600
MAX_MEMORY_BYTES: Final = 3 << 30
TIMEOUT_SECONDS: Final = 60.0
_FRAME = struct.Struct("<BQ")
_GOOD, _NONE = 1, 0
_log = Log("lianzhen.preview")


class NoPreview(ValueError):
    """This image cannot be shown here; the text says why in a word or two."""


class PreviewWorker:
    """The worker from the core's side: started at the first image, again when it died."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None

    async def render(self, file: bytes) -> bytes:
        """JPEG of a Part 10 file. NoPreview: there is none to be had, or it took too long."""
        process = self._process = self._process or await self._start()
        stdin, stdout = process.stdin, process.stdout
        if stdin is None or stdout is None:
            raise RuntimeError("a preview worker without its pipes")
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                stdin.write(_FRAME.pack(_GOOD, len(file)) + file)
                await stdin.drain()
                status, length = _FRAME.unpack(await stdout.readexactly(_FRAME.size))
                content = await stdout.readexactly(length)
        except (TimeoutError, OSError, asyncio.IncompleteReadError) as error:
            await self.close()
            _log.warning("preview worker ended", error=type(error).__name__)
            raise NoPreview("the decoder failed") from error
        except BaseException:
            await self.close()
            raise
        if status != _GOOD:
            raise NoPreview(content.decode(errors="replace"))
        return content

    async def close(self) -> None:
        """End it."""
        process, self._process = self._process, None
        if process is not None:
            if process.returncode is None:
                process.kill()
            await process.wait()

    @staticmethod
    async def _start() -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *own_command("lianzhen_edge.dicom.preview"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,  # decoders write what they like
        )


# -- inside the worker


def render(file: bytes) -> bytes:
    """JPEG (8 bit, at most ``MAX_SIDE`` on a side) of the middle frame; NoPreview says why not."""
    from pydicom import dcmread

    image = dcmread(io.BytesIO(file))
    if "PixelData" not in image:
        raise NoPreview("no pixels")
    frames = int(image.get("NumberOfFrames") or 1)
    try:
        return _jpeg(_eight_bit(image, _frame(image, frames // 2 if frames > 1 else 0)))
    except (RuntimeError, NotImplementedError) as error:
        raise NoPreview("no decoder for this transfer syntax") from error


def _frame(image: Any, index: int) -> Any:
    from pydicom.pixels.utils import pixel_array

    return pixel_array(image, index=index)


def _eight_bit(image: Any, pixels: Any) -> Any:
    """Pixels (rows, columns) or (rows, columns, 3) as bytes, windowed where they are grey."""
    import numpy as np
    from pydicom.pixels.processing import apply_color_lut, apply_modality_lut

    kind = str(image.PhotometricInterpretation)
    if kind == "PALETTE COLOR":
        pixels = apply_color_lut(pixels, image)
        return (pixels >> 8 if pixels.dtype.itemsize > 1 else pixels).astype(np.uint8)
    if pixels.ndim == 3:
        return (pixels >> (int(image.BitsStored) - 8)).astype(np.uint8)
    values = apply_modality_lut(pixels, image).astype(np.float32)
    low, high = _window(image, values)
    scaled = np.clip((values - low) / max(high - low, 1e-6), 0, 1) * 255
    return (255 - scaled if kind == "MONOCHROME1" else scaled).astype(np.uint8)


def _window(image: Any, values: Any) -> tuple[float, float]:
    """What is black and what is white: the modality's first window, or the values' own spread."""
    import numpy as np

    center, width = _first(image.get("WindowCenter")), _first(image.get("WindowWidth"))
    if center is not None and width is not None and width >= 1:
        return center - width / 2, center + width / 2
    low, high = np.percentile(values, (0.5, 99.5))
    return float(low), float(high)


def _first(value: Any) -> float | None:
    from pydicom.multival import MultiValue

    if value is None or value == "":
        return None
    return float(value[0] if isinstance(value, MultiValue) else value)


def _jpeg(pixels: Any) -> bytes:
    from PIL import Image

    picture = Image.fromarray(pixels)
    picture.thumbnail((MAX_SIDE, MAX_SIDE))
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=QUALITY)
    return out.getvalue()


def _answer(file: bytes) -> tuple[int, bytes]:
    try:
        return _GOOD, render(file)
    except NoPreview as error:
        return _NONE, str(error).encode()
    except Exception as error:  # noqa: BLE001 - one image's surprise; the next may be a good one
        return _NONE, type(error).__name__.encode()


def _serve(source: BinaryIO, sink: BinaryIO) -> None:
    while len(head := source.read(_FRAME.size)) == _FRAME.size:
        status, content = _answer(source.read(_FRAME.unpack(head)[1]))
        sink.write(_FRAME.pack(status, len(content)) + content)
        sink.flush()


def main() -> None:
    """Serve standard input until it ends, which it does with our parent."""
    os.nice(10)
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    warnings.simplefilter("ignore")
    sink = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # no library's print gets between answers
    _serve(sys.stdin.buffer, sink)


if __name__ == "__main__":
    main()
