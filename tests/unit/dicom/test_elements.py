"""Reading encoded data sets: pydicom's own files, every way to cut them, and nonsense."""

import contextlib
import struct
import zlib
from pathlib import Path

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.data import get_testdata_file

from lianzhen_edge.dicom import elements
from lianzhen_edge.dicom.elements import DataSetBroken, Walk
from lianzhen_protocol import dicomset

FILES = (
    *("CT_small.dcm", "examples_rgb_color.dcm", "examples_palette.dcm", "examples_jpeg2k.dcm"),
    *("examples_ybr_color.dcm", "ExplVR_BigEnd.dcm", "MR_small.dcm", "693_J2KI.dcm"),
    *("MR_small_implicit.dcm", "image_dfl.dcm", "liver_1frame.dcm", "reportsi.dcm", "rtplan.dcm"),
)


def fields(data: bytes, syntax: str) -> dict[int, bytes]:
    """A walk over one piece."""
    walk = Walk(syntax)
    walk.feed(data)
    return walk.end()


def encoded(name: str) -> tuple[str, bytes, pydicom.Dataset]:
    """(transfer syntax, data set as it lies in the file, the same read by pydicom)."""
    path = Path(str(get_testdata_file(name)))
    found = pydicom.dcmread(path, defer_size=1 << 16)
    with path.open("rb") as file:
        pydicom.filereader.read_partial(file, lambda *_: True)
        raw = path.read_bytes()
    length = found.file_meta.FileMetaInformationGroupLength
    return str(found.file_meta.TransferSyntaxUID), raw[132 + 12 + length :], found


@pytest.mark.parametrize("name", FILES)
def test_a_real_file_is_whole_and_says_what_pydicom_says(name: str) -> None:
    syntax, data, wanted = encoded(name)
    found = fields(data, syntax)
    for tag, keyword in (
        (elements.SOP_UID, "SOPInstanceUID"),
        (elements.STUDY_UID, "StudyInstanceUID"),
        (elements.SERIES_UID, "SeriesInstanceUID"),
        (elements.MODALITY, "Modality"),
        (elements.PATIENT_ID, "PatientID"),
    ):
        said = found.get(tag, b"").decode().rstrip("\0 ")
        assert said == str(wanted.get(keyword, "") or "").rstrip()
    if "Rows" in wanted:
        assert int.from_bytes(found[elements.ROWS], "little") == wanted.Rows


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_was_cut_off_is_found_out_wherever(name: str) -> None:
    syntax, data, _ = encoded(name)
    whole = len(data)
    if syntax == dicomset.DEFLATED:  # padding or a stray trailer may follow
        unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
        unpacker.decompress(data)
        whole -= len(unpacker.unused_data)
    cuts = {1, 2, 7, 8, whole // 3, whole // 2, whole - 1000, whole - 9, whole - 2, whole - 1}
    ends = element_ends(data, syntax)
    for cut in sorted(cut for cut in cuts if 0 < cut < whole and cut not in ends):
        with pytest.raises(DataSetBroken):
            fields(data[:cut], syntax)


def element_ends(data: bytes, syntax: str) -> set[int]:
    """Where a cut leaves a data set that is whole in itself, only shorter."""
    if syntax == dicomset.DEFLATED:
        return set()
    walker, ends = elements._Walker(syntax), set()
    walker._window = data
    while walker._step():
        if walker._within == [elements._Within.DATA_SET]:
            ends.add(walker._at)
    return ends


def in_pieces(data: bytes, syntax: str, size: int) -> dict[int, bytes]:
    walk, buffer = elements.Walk(syntax), bytearray(size)
    for at in range(0, len(data), size):
        piece = data[at : at + size]
        buffer[: len(piece)] = piece  # over the one before
        walk.feed(memoryview(buffer)[: len(piece)])
    return walk.end()


@pytest.mark.parametrize("name", FILES)
def test_it_comes_to_the_same_whatever_pieces_it_comes_in(name: str) -> None:
    syntax, data, _ = encoded(name)
    wanted = fields(data, syntax)
    for size in (7, 100, 4096):
        kept = data[: 3000 * size]
        if len(kept) == len(data):
            assert in_pieces(data, syntax, size) == wanted
        else:
            with pytest.raises(DataSetBroken):
                in_pieces(kept, syntax, size)


@given(st.binary(max_size=400), st.sampled_from([dicomset.IMPLICIT, "1.2.840.10008.1.2.1"]))
def test_nonsense_is_said_to_be_that(data: bytes, syntax: str) -> None:
    try:
        found = fields(data, syntax)
    except DataSetBroken:
        return
    assert found


@given(st.integers(0, 39000), st.binary(min_size=1, max_size=8))
def test_a_damaged_file_ends_in_an_answer(at: int, noise: bytes) -> None:
    syntax, data, _ = encoded("CT_small.dcm")
    damaged = data[:at] + noise + data[at + len(noise) :]
    with contextlib.suppress(DataSetBroken):  # anything else would be a surprise
        assert fields(damaged, syntax)


def nested(depth: int) -> bytes:
    opening = struct.pack("<HHLHHL", 0x0040, 0xA730, 0xFFFFFFFF, 0xFFFE, 0xE000, 0xFFFFFFFF)
    closing = struct.pack("<HHLHHL", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
    modality = struct.pack("<HHL", 0x0008, 0x0060, 2) + b"CT"
    return modality + opening * depth + closing * depth


def test_sequences_within_sequences_have_an_end() -> None:
    assert fields(nested(20), dicomset.IMPLICIT)[elements.MODALITY] == b"CT"
    for depth in (100, 20_000):
        with pytest.raises(DataSetBroken, match="deep"):
            fields(nested(depth), dicomset.IMPLICIT)


def test_what_lies_in_a_sequence_is_not_the_images_own() -> None:
    inner = struct.pack("<HHL", 0x0008, 0x0018, 4) + b"9.9\0"
    item = struct.pack("<HHL", 0xFFFE, 0xE000, len(inner)) + inner
    data = struct.pack("<HHL", 0x0008, 0x1140, len(item)) + item
    data += struct.pack("<HHL", 0x0008, 0x0060, 2) + b"CT"
    assert elements.SOP_UID not in fields(data, dicomset.IMPLICIT)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (struct.pack("<HHL", 0xFFFE, 0xE00D, 0), "out of place"),
        (struct.pack("<HHLHHL", 8, 0x1140, 0xFFFFFFFF, 8, 0x60, 0), "no item"),
        (struct.pack("<HHLHHL", 0x7FE0, 16, 0xFFFFFFFF, 8, 0x60, 0), "no fragment"),
        (b"", "none of the elements"),
        (struct.pack("<HHL", 8, 0x60, 0xFFFFFFFE), "missing"),
    ],
)
def test_why_a_data_set_is_none(data: bytes, words: str) -> None:
    with pytest.raises(DataSetBroken, match=words):
        fields(data, dicomset.IMPLICIT)


def test_deflated_data_that_never_end_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elements, "_MAX_INFLATED", 1000)
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    bomb = packer.compress(bytes(1 << 20)) + packer.flush()
    with pytest.raises(DataSetBroken, match="without end"):
        fields(bomb, dicomset.DEFLATED)
    with pytest.raises(DataSetBroken, match="damaged"):
        fields(b"\xff" * 20, dicomset.DEFLATED)


def test_a_long_value_is_not_kept() -> None:
    data = struct.pack("<HHL", 0x0008, 0x1030, 5000) + bytes(5000)
    data += struct.pack("<HHL", 0x0008, 0x0060, 2) + b"CT"
    assert set(fields(data, dicomset.IMPLICIT)) == {elements.MODALITY}


def test_unknown_values_of_undefined_length_are_implicit_inside() -> None:
    inner = struct.pack("<HHL", 0x0008, 0x0100, 2) + b"AB"
    item = struct.pack("<HHL", 0xFFFE, 0xE000, len(inner)) + inner
    end = struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
    data = struct.pack("<HH2sHL", 0x0009, 0x1001, b"UN", 0, 0xFFFFFFFF) + item + end
    data += struct.pack("<HH2sH", 0x0008, 0x0060, b"CS", 2) + b"CT"
    assert fields(data, "1.2.840.10008.1.2.1")[elements.MODALITY] == b"CT"
