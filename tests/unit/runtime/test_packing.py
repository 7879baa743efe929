"""Packed for the line and back byte for byte, whatever the pixels are; what hostile bytes do."""

import os
from io import BytesIO
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian

from lianzhen_runtime import packing
from lianzhen_runtime.packing import NotPacked, pack, unpack
from support.modality import ct_slice, data_set, part10

EXPLICIT = "1.2.840.10008.1.2.1"


def tissue(*shape: int) -> Any:
    """Smooth, with noise on it as a scanner has: no two values in a row are equal for long."""
    rng = np.random.default_rng(len(shape))
    ramp = np.linspace(0, 900, shape[-1]) * np.ones(shape)
    return ramp + rng.normal(0, 12, shape)


def file(**values: Any) -> bytes:
    image = ct_slice(1, "1.2.3", "1.2.3.4", side=64, **values)
    return part10(image.SOPClassUID, image.SOPInstanceUID, EXPLICIT, data_set(image))


def packaged(name: str) -> bytes:
    return Path(str(get_testdata_file(name))).read_bytes()


def grey(dtype: str, low: int, frames: int = 1, **more: Any) -> bytes:
    pixels = (tissue(frames, 64, 64) + low).astype(dtype)
    return file(
        PixelData=pixels.tobytes(), PixelRepresentation=int(dtype == "<i2"),
        **({"NumberOfFrames": frames} if frames > 1 else {}), **more,
    )  # fmt: skip


def colour(planar: int, kind: str = "RGB") -> bytes:
    base = tissue(64, 64) / 5
    pixels = np.stack([base, base + 9, base + 30], axis=-1).clip(0, 255).astype(np.uint8)
    pixels = pixels.transpose(2, 0, 1) if planar else pixels
    return file(
        PixelData=pixels.tobytes(), SamplesPerPixel=3, PhotometricInterpretation=kind,
        PlanarConfiguration=planar, BitsAllocated=8, BitsStored=8, HighBit=7,
    )  # fmt: skip


def lesser() -> bytes:
    pixels = (tissue(64, 64) / 5).clip(0, 255).astype(np.uint8)
    return file(PixelData=pixels.tobytes(), BitsAllocated=8, BitsStored=8, HighBit=7)


CASES = {
    "signed": grey("<i2", -1024),
    "unsigned": grey("<u2", 0),
    "high values": grey("<u2", 60_000),
    "cine": grey("<u2", 0, frames=5),
    "eight bits": lesser(),
    "rgb": colour(0),
    "rgb by planes": colour(1),
    "ybr": colour(0, "YBR_FULL"),
    "flat": file(PixelData=bytes(2 * 64 * 64)),
    "more than the rows": grey("<i2", 0) + b"\xfc\xff\xfc\xffOB\0\0\4\0\0\0\0\0\0\0",
    "misdeclared text": grey("<i2", 0).replace(
        "测试^患者".encode(), b"\xd5\\^\xca\xd4^\x84^\xb2\xe2   "
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_what_was_packed_comes_out_byte_for_byte(name: str) -> None:
    content = CASES[name]
    packed = pack(content)
    assert unpack(packed, len(content)) == content
    assert len(packed) < 0.7 * len(content)


def test_implicit_data_sets_are_packed_as_well() -> None:
    image = Dataset.from_json(ct_slice(1, "1.2.3", "1.2.3.4").to_json())
    image.PixelData = tissue(64, 64).astype("<u2").tobytes()
    out = BytesIO()
    pydicom.dcmwrite(out, image, implicit_vr=True, little_endian=True, enforce_file_format=False)
    uids = image.SOPClassUID, image.SOPInstanceUID
    content = part10(*uids, ImplicitVRLittleEndian, out.getvalue())
    assert unpack(pack(content), len(content)) == content


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (packaged("MR_small_jp2klossless.dcm"), "compressed"),
        (packaged("reportsi.dcm"), "no pixels|unusual"),
        (file(PixelData=os.urandom(2 * 64 * 64)), "nothing gained"),
        (grey("<u2", 0, BitsAllocated=32), "unusual"),
        (grey("<u2", 0, Rows=65), "do not fit"),
    ],
)  # fmt: skip
def test_what_is_not_worth_it_or_not_plain_goes_as_it_is(content: bytes, why: str) -> None:
    with pytest.raises(NotPacked, match=why):
        pack(content)


def test_a_form_that_does_not_give_the_original_back_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    content = CASES["signed"]
    monkeypatch.setattr(packing, "unpack", lambda _packed, size: bytes(size))
    with pytest.raises(NotPacked, match="the same"):
        pack(content)


def test_hostile_bytes_unpack_to_nothing_and_to_nothing_large() -> None:
    content = CASES["signed"]
    packed = pack(content)
    body = msgspec.msgpack.decode(packed[4:])
    bomb = [[1 << 15, 1 << 15, 1, 2, 0], *body[1:]]
    lies = [[64, 63, 1, 2, 0], *body[1:]]
    for bad in (bomb, lies, [body[0], b"x", *body[2:]], [*body[:3], []], body[:2]):
        with pytest.raises(NotPacked):
            unpack(b"LZP1" + msgspec.msgpack.encode(bad), len(content))
    with pytest.raises(NotPacked):
        unpack(packed, len(content) - 1)
    rng = np.random.default_rng(5)
    for _ in range(60):
        mutant = bytearray(packed)
        mutant[int(rng.integers(len(mutant)))] ^= 1 << int(rng.integers(8))
        try:
            out = unpack(bytes(mutant), len(content))
        except (NotPacked, RuntimeError, ValueError):
            continue
        assert len(out) == len(content)
