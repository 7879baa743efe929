"""Previews of real images, and a worker that outlives what hostile ones do to it."""

import io
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom.data import get_testdata_file

from lianzhen_edge.dicom import preview
from lianzhen_edge.dicom.preview import NoPreview, PreviewWorker, render
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
    ],
)
def test_kinds_of_images(name: str, mode: str, size: tuple[int, int]) -> None:
    found = picture(render(file(name)))
    assert (found.mode, found.size) == (mode, size)
    assert np.asarray(found).std() > 5  # something is to be seen


def shades(**more: object) -> Image.Image:
    """A preview of a slice that grows from black, left, to 4000, right."""
    out = io.BytesIO()
    image = ct_slice(1, "1.2.3", "1.2.3.4", side=64, **more)
    ramp = np.tile(np.linspace(0, 4000, 64).astype("<u2"), (64, 1))
    image.PixelData = ramp.tobytes()
    image.save_as(out, enforce_file_format=True)
    return picture(render(out.getvalue()))


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
        ("MR_small_jpeg_ls_lossless.dcm", "no decoder for this transfer syntax"),
    ],
)
def test_images_that_cannot_be_shown_say_why(name: str, why: str) -> None:
    with pytest.raises(NoPreview, match=why):
        render(file(name))


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
