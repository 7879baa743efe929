"""Pictures of images: a windowed 8-bit JPEG of the middle frame, made in a process of its own.

``python -m lianzhen_runtime.preview`` answers Part 10 files on standard input with JPEG on
standard output, each with its length before it, and ends with its parent. What a hostile image
does to a decoder, it does there: packing for the line (``packing``), reading measurements
(``measurements``) and making images over (``dicomweb.making``) are jobs of it too.

Behind the picture of a cine come some of its frames, JPEG after JPEG: a browser shows the first,
``frame_of`` finds the others.

A window is one of VOI LUT (DICOM PS3.3, C.11.2): which values, after the modality LUT, are shown as
black, as white, and between. It is applied to the values themselves, never to an 8-bit picture.
"""

import asyncio
import contextlib
import io
import os
import resource
import signal
import struct
import sys
import warnings
from typing import Any, BinaryIO, Final

import msgspec

from lianzhen_protocol.imaging import cine_frames
from lianzhen_runtime.child import dying_with_us, own_command
from lianzhen_runtime.log import Log

from .deidentify import NotCleaned, Plan, deidentify
from .measurements import Measurement, NoMeasurements, read_measurements
from .packing import NotPacked, pack, unpack

QUALITY: Final = 75
MAX_SIDE: Final = 1600
MAX_PREVIEW_BYTES: Final = 4 << 20
"""What a hub takes; frames of a cine that are noise alone are left out."""
_CINE_SIDE: Final = 512
OWN: Final = ""
"""The window that the modality chose."""

WINDOWS: Final = {
    "brain": (40.0, 80.0),
    "lung": (-600.0, 1500.0),
    "bone": (400.0, 1800.0),
    "soft": (50.0, 400.0),
}
"""Centre and width in Hounsfield units, as they are in common use (radiopaedia.org, "Windowing
(CT)"): brain, lungs, bone, soft tissue of the abdomen."""

_PACK, _UNPACK, _MEASURE, _MAKE, _CLEAN = "pack", "unpack", "measure", "make", "clean"
_JOBS: Final = (OWN, *WINDOWS, _PACK, _UNPACK, _MEASURE, _MAKE, _CLEAN)
MAX_MEMORY_BYTES: Final = 3 << 30
TIMEOUT_SECONDS: Final = 60.0
_FRAME = struct.Struct("<BQ")
_SIZE = struct.Struct("<Q")
_BETWEEN: Final = b"\xff\xd9\xff\xd8\xff"
"""An end of image and the next one's start: within a JPEG no marker ends it."""
_GOOD, _NONE = 1, 0
_log = Log("lianzhen.preview")


class NoPreview(ValueError):
    """This image cannot be shown here; the text says why in a word or two."""


class PreviewWorker:
    """The worker from the core's side: started at the first image, again when it died."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()
        self._free = asyncio.Event()
        self._free.set()
        self._limit: asyncio.Timeout | None = None

    async def render(self, file: bytes, window: str = OWN) -> bytes:
        """JPEG of a Part 10 file, one at a time, through its own window or one of ``WINDOWS``.

        NoPreview: there is none to be had, or it took too long.
        """
        return await self._do(window, file)

    async def pack(self, file: bytes) -> bytes | None:
        """Its packed form; None if it goes as it is."""
        try:
            return await self._do(_PACK, file)
        except NoPreview:
            return None

    async def unpack(self, packed: bytes, size: int) -> bytes | None:
        """The file of ``size`` bytes; None if these are no packed form of one."""
        try:
            return await self._do(_UNPACK, _SIZE.pack(size) + packed)
        except NoPreview:
            return None

    async def measurements(self, file: bytes) -> list[Measurement]:
        """What a Structured Report measured; NoPreview if it is none that can be read."""
        found = await self._do(_MEASURE, file)
        return msgspec.json.decode(found, type=list[Measurement])

    async def make(self, order: bytes, file: bytes) -> bytes:
        """What ``dicomweb.making`` makes of a file; NoPreview."""
        return await self._do(_MAKE, _SIZE.pack(len(order)) + order + file)

    async def deidentified(self, file: bytes, plan: Plan) -> bytes:
        """The file of an image without its patient; NoPreview if that cannot be made."""
        return await self._do(_CLEAN, msgspec.msgpack.encode((plan, file)))

    def hold(self) -> None:
        """Stop within the image, until ``go_on``: somebody needs the processor at once."""
        self._free.clear()
        if self._limit is not None:
            self._limit.reschedule(None)
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Take up the work again."""
        self._free.set()
        if self._limit is not None:
            self._limit.reschedule(asyncio.get_running_loop().time() + TIMEOUT_SECONDS)
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def _do(self, job: str, content: bytes) -> bytes:
        async with self._turn:
            await self._free.wait()
            return await self._ask(_JOBS.index(job), content)

    async def _ask(self, job: int, sent: bytes) -> bytes:
        process = self._process = self._process or await self._start()
        stdin, stdout = process.stdin, process.stdout
        if stdin is None or stdout is None:
            raise RuntimeError("a preview worker without its pipes")
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS) as self._limit:
                stdin.write(_FRAME.pack(job, len(sent)) + sent)
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
        finally:
            self._limit = None
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
            # The end of its input alone would not end one that is held.
            *dying_with_us(own_command("lianzhen_runtime.preview")),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,  # decoders write what they like
        )


def frame_of(preview: bytes, index: int) -> bytes:
    """One of the frames behind the picture of a cine, from 0; NoPreview if there is no such one."""
    parts = preview.split(_BETWEEN)
    if not 0 <= index < len(parts) - 1:
        raise NoPreview("no such frame")
    last = index == len(parts) - 2
    return _BETWEEN[2:] + parts[index + 1] + (b"" if last else _BETWEEN[:2])


def picked(preview: bytes, frame: str) -> bytes:
    """The preview, or by its number, as it stands in an address, a frame of it; NoPreview."""
    if not frame:
        return preview
    return frame_of(preview, int(frame) if frame.isascii() and frame.isdigit() else -1)


# -- inside the worker


def render(file: bytes, window: str = OWN) -> bytes:
    """JPEG (8 bit, at most ``MAX_SIDE`` on a side) of the middle frame, and behind it, if it is the
    modality's own window of a cine, some of all frames; NoPreview says why not."""
    from pydicom import dcmread

    image = dcmread(io.BytesIO(file))
    if "PixelData" not in image:
        raise NoPreview("no pixels")
    if window and not _hounsfield(image):
        raise NoPreview("no Hounsfield units")
    frames = int(image.get("NumberOfFrames") or 1)
    some = cine_frames(frames) if window == OWN else 0
    try:
        pixels = _frame(image, frames // 2 if frames > 1 else 0)
        pictures = [_jpeg(eight_bit(image, pixels, window), MAX_SIDE)]
        for number in range(some):
            pixels = _frame(image, number * frames // some)
            pictures.append(_jpeg(eight_bit(image, pixels, window), _CINE_SIDE))
        whole = b"".join(pictures)
        return whole if len(whole) <= MAX_PREVIEW_BYTES else pictures[0]
    except (RuntimeError, NotImplementedError) as error:
        raise NoPreview("no decoder for this transfer syntax") from error


def _frame(image: Any, index: int) -> Any:
    from pydicom.pixels.utils import pixel_array

    return pixel_array(image, index=index)


def _hounsfield(image: Any) -> bool:
    """Whether a preset means anything: values of a CT, in its own unit (PS3.3, C.11.1.1.2)."""
    unit = str(image.get("RescaleType") or "HU").strip().upper()
    scaled = "RescaleIntercept" in image or "ModalityLUTSequence" in image
    return str(image.get("Modality")) == "CT" and unit == "HU" and scaled


def eight_bit(image: Any, pixels: Any, window: str) -> Any:
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
    if window:
        scaled = _voi(values, *WINDOWS[window]) * 255
    elif image.get("VOILUTSequence"):
        from pydicom.pixels.processing import apply_voi

        table = apply_voi(values.astype(np.int32), image).astype(np.float32)
        scaled = table / max(float(table.max()), 1.0) * 255
    else:
        scaled = _own(image, values) * 255
    return (255 - scaled if kind == "MONOCHROME1" else scaled).round().astype(np.uint8)


def _own(image: Any, values: Any) -> Any:
    """Through the modality's first window, or from the values' own spread; 0 to 1."""
    import numpy as np

    center, width = _first(image.get("WindowCenter")), _first(image.get("WindowWidth"))
    if center is not None and width is not None and width >= 1:
        return _voi(values, center, width, str(image.get("VOILUTFunction") or "LINEAR"))
    low, high = np.percentile(values, (0.5, 99.5))
    return np.clip((values - low) / max(float(high - low), 1e-6), 0, 1)


def _voi(values: Any, center: float, width: float, function: str = "LINEAR") -> Any:
    """0 to 1 by the three functions of PS3.3, C.11.2.1.2 and C.11.2.1.3."""
    import numpy as np

    if function == "SIGMOID":
        return 1 / (1 + np.exp(np.clip(-4 * (values - center) / width, -80, 80)))
    if function == "LINEAR_EXACT":
        return np.clip((values - center) / width + 0.5, 0, 1)
    if width <= 1:
        return (values > center - 0.5).astype(np.float32)
    return np.clip((values - (center - 0.5)) / (width - 1) + 0.5, 0, 1)


def _first(value: Any) -> float | None:
    from pydicom.multival import MultiValue

    if value is None or value == "":
        return None
    return float(value[0] if isinstance(value, MultiValue) else value)


def _jpeg(pixels: Any, side: int) -> bytes:
    from PIL import Image

    picture = Image.fromarray(pixels)
    picture.thumbnail((side, side))
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=QUALITY)
    return out.getvalue()


def _work(job: str, content: bytes) -> bytes:
    match job:
        case "pack":
            return pack(content)
        case "unpack":
            return unpack(content[_SIZE.size :], *_SIZE.unpack(content[: _SIZE.size]))
        case "make":
            from .dicomweb.making import work  # which needs us

            end = _SIZE.size + _SIZE.unpack(content[: _SIZE.size])[0]
            return work(content[_SIZE.size : end], content[end:])
        case "measure":
            return msgspec.json.encode(read_measurements(content))
        case "clean":
            plan, file = msgspec.msgpack.decode(content, type=tuple[Plan, bytes])
            return deidentify(file, plan)
        case _:
            return render(content, job)


def _answer(content: bytes, job: str) -> tuple[int, bytes]:
    try:
        return _GOOD, _work(job, content)
    except (NoPreview, NotPacked, NoMeasurements, NotCleaned) as error:
        return _NONE, str(error).encode()
    except Exception as error:  # noqa: BLE001 - one image's surprise; the next may be a good one
        return _NONE, type(error).__name__.encode()


def _serve(source: BinaryIO, sink: BinaryIO) -> None:
    while len(head := source.read(_FRAME.size)) == _FRAME.size:
        job, length = _FRAME.unpack(head)
        status, content = _answer(source.read(length), _JOBS[job])
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
    from lianzhen_runtime import preview  # whose errors are those that its jobs raise

    preview.main()
