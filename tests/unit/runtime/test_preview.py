"""Previews of real images, and a worker that outlives what hostile ones do to it."""

import io
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.data import get_testdata_file

from lab import wait_until
from lianzhen_protocol.imaging import cine_frames
from lianzhen_runtime import preview
from lianzhen_runtime.preview import WINDOWS, NoPreview, PreviewWorker, frame_of, render
from support.modality import ct_slice


def file(name: str) -> bytes:
    return Path(str(get_testdata_file(name))).read_bytes()


def picture(jpeg: bytes) -> Image.Image:
    return Image.open(io.BytesIO(jpeg))


@pytest.mark.parametrize(
    ("name", "mode", "size"),
    [
        ("CT_small.dcm", "L", (128, 128)),
        ("MR_small_RLE.dcm", "L", (64, 64)),
        ("examples_rgb_color.dcm", "RGB", (320, 240)),
        ("examples_palette.dcm", "RGB", (800, 350)),
        ("examples_jpeg2k.dcm", "RGB", (640, 480)),
        ("examples_ybr_color.dcm", "RGB", (320, 240)),
        ("ExplVR_BigEnd.dcm", "RGB", (80, 60)),
        ("JPEGLSNearLossless_16.dcm", "L", (10, 50)),
        ("MR_small_jp2klossless.dcm", "L", (64, 64)),
        ("SC_rgb_jpeg_gdcm.dcm", "RGB", (100, 100)),
        ("SC_rgb_jls_lossy_line.dcm", "RGB", (100, 100)),
    ],
)
def test_kinds_of_images(name: str, mode: str, size: tuple[int, int]) -> None:
    found = picture(render(file(name)))
    assert (found.mode, found.size) == (mode, size)
    assert np.asarray(found).std() > 5  # something is to be seen


def test_what_is_compressed_without_loss_looks_as_it_did_before() -> None:
    plain = render(file("MR_small.dcm"))
    for name in ("MR_small_jpeg_ls_lossless.dcm", "MR_small_jp2klossless.dcm", "MR_small_RLE.dcm"):
        assert render(file(name)) == plain, name


def shades(window: str = "", **more: object) -> Image.Image:
    """A preview of a slice that grows from 0, left, to 4000, right."""
    out = io.BytesIO()
    image = ct_slice(1, "1.2.3", "1.2.3.4", side=64, **more)
    ramp = np.tile(np.linspace(0, 4000, 64).astype("<u2"), (64, 1))
    image.PixelData = ramp.tobytes()
    image.save_as(out, enforce_file_format=True)
    return picture(render(out.getvalue(), window))


@pytest.mark.parametrize("name", WINDOWS)
def test_a_preset_is_a_window_over_hounsfield_units(name: str) -> None:
    """Wherever the values lie that were stored: the formula of PS3.3, C.11.2.1.2.1."""
    center, width = WINDOWS[name]
    for slope, intercept in ((1, -1024), (0.5, -1024)):
        row = np.asarray(
            shades(name, RescaleSlope=str(slope), RescaleIntercept=str(intercept), WindowCenter="9")
        )[32]
        values = np.linspace(0, 4000, 64).astype("<u2").astype(float) * slope + intercept
        wanted = np.clip((values - (center - 0.5)) / (width - 1) + 0.5, 0, 1) * 255
        plain = (wanted <= 0) | (wanted >= 255)
        plain &= np.roll(plain, 8) & np.roll(plain, -8)  # JPEG blurs an edge within its block
        assert np.abs(row[plain] - wanted[plain]).max(initial=0) < 6
        assert np.abs(row - wanted).mean() < 8
        assert row.max() > 200


def test_a_preset_is_refused_where_values_are_no_hounsfield_units() -> None:
    for more in ({"Modality": "MR", "RescaleIntercept": "0"}, {}, {"RescaleType": "OD"}):
        with pytest.raises(NoPreview, match="Hounsfield"):
            shades("lung", **more)


def test_the_functions_of_a_window() -> None:
    window = {"WindowCenter": "2000", "WindowWidth": "1000"}
    exact = np.asarray(shades(VOILUTFunction="LINEAR_EXACT", **window))[32]
    assert (exact[20] < 3, exact[44] > 252) == (True, True)
    soft = np.asarray(shades(VOILUTFunction="SIGMOID", **window))[32]
    assert 3 < soft[24] < 60  # a sigmoid has no edge
    assert soft[24] < soft[32] < soft[40]


def test_the_window_of_the_modality_is_used() -> None:
    row = np.asarray(shades(WindowCenter="2000", WindowWidth="1000"))[32]
    assert row[20] < 3  # JPEG is not exact
    assert row[44] > 252
    assert 100 < row[32] < 160
    assert np.asarray(shades(PhotometricInterpretation="MONOCHROME1"))[32][0] > 252


def test_without_one_the_values_own_spread_is() -> None:
    row = np.asarray(shades())[32]
    assert row[0] < 3
    assert row[-1] > 252


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("reportsi.dcm", "no pixels"),
        ("JPGExtended.dcm", "no decoder for this transfer syntax"),  # 12 bits
        ("MR_small_jpeg_ls_lossless.dcm", "no decoder for this transfer syntax"),
    ],
)
def test_images_that_cannot_be_shown_say_why(name: str, why: str) -> None:
    other = file(name).replace(b"1.2.840.10008.1.2.4.80", b"1.2.840.10008.1.2.4.94")  # JPIP
    with pytest.raises(NoPreview, match=why):
        render(other)


def test_a_cine_has_frames_of_the_whole_behind_its_picture() -> None:
    image = pydicom.dcmread(io.BytesIO(file("examples_rgb_color.dcm")))
    frames, rng = 40, np.random.default_rng(3)
    one = rng.integers(0, 16, (120, 160, 3), np.uint8)
    image.Rows, image.Columns, image.NumberOfFrames = 120, 160, frames
    image.PixelData = np.stack([one + 5 * number for number in range(frames)]).tobytes()
    out = io.BytesIO()
    image.save_as(out)
    found = render(out.getvalue())
    assert picture(found).size == (160, 120)  # what a browser shows of it
    parts = [picture(frame_of(found, number)) for number in range(cine_frames(frames))]
    grey = [float(np.asarray(part).mean()) for part in parts]
    assert (len(grey), grey) == (16, sorted(grey))
    assert grey[-1] - grey[0] > 100  # of the first to the last, not of a few in a row
    for none in (-1, 16):
        with pytest.raises(NoPreview):
            frame_of(found, none)
    with pytest.raises(NoPreview):
        frame_of(render(file("CT_small.dcm")), 0)


@pytest.fixture
async def worker() -> AsyncIterator[PreviewWorker]:
    made = PreviewWorker()
    yield made
    await made.close()


async def test_the_worker_goes_on_after_a_bad_image_and_comes_back_when_it_was_killed(
    worker: PreviewWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = file("CT_small.dcm")
    assert picture(await worker.render(good)).size == (128, 128)
    assert await worker.render(good, "lung") == render(good, "lung") != render(good)
    for bad in (b"", b"nothing of the kind", good[:5000]):
        with pytest.raises(NoPreview):
            await worker.render(bad)
    first = worker._process
    assert first is not None
    first.kill()
    await first.wait()
    with pytest.raises(NoPreview, match="decoder failed"):
        await worker.render(good)
    assert picture(await worker.render(good)).size == (128, 128)
    monkeypatch.setattr(preview, "TIMEOUT_SECONDS", 0.0)
    with pytest.raises(NoPreview, match="decoder failed"):
        await worker.render(good)


CORE = """
import asyncio, pathlib
from lianzhen_runtime.preview import PreviewWorker
async def main():
    worker = PreviewWorker()
    await worker.render(pathlib.Path({image!r}).read_bytes())
    worker.hold()
    print(worker._process.pid, flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


def test_a_worker_that_is_held_ends_with_a_core_that_is_killed() -> None:
    """A stopped process reads no end of its input, and would stay for ever."""
    program = CORE.format(image=str(get_testdata_file("CT_small.dcm")))
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as core:
        assert core.stdout is not None
        worker = Path("/proc") / core.stdout.readline().decode().strip()
        assert worker.exists()
        core.kill()
    wait_until("the worker's end", lambda: not worker.exists())
