"""Parsers of what the network sends, at their borders and against anything at all."""

import contextlib
import io

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from lianzhen_protocol.errors import ProtocolError
from lianzhen_runtime.dicomweb import media, multipart, query
from lianzhen_runtime.dicomweb.dataset import read
from lianzhen_runtime.dicomweb.described import describe, with_addresses
from support.archive_hub import part10
from support.modality import ct_slice


def said(parts: list[tuple[dict[str, str], bytes]], boundary: str) -> bytes:
    body = b"preamble that nobody reads"
    for headers, content in parts:
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        body += f"\r\n--{boundary}\r\n{head}\r\n".encode() + content
    return body + f"\r\n--{boundary}--\r\nepilogue".encode()


PARTS = st.lists(
    st.tuples(
        st.dictionaries(st.sampled_from(["a", "content-type"]), st.sampled_from(["x", "b/c; d=e"])),
        st.binary(max_size=60).filter(lambda content: b"--bound" not in content),
    ),
    max_size=4,
)


@given(PARTS, st.lists(st.integers(1, 40), min_size=1, max_size=30))
@settings(max_examples=150, deadline=None)
def test_multipart_however_it_is_cut(
    parts: list[tuple[dict[str, str], bytes]], cuts: list[int]
) -> None:
    body, found = said(parts, "bound"), []
    reader = multipart.Reader(b"bound", 100)
    at = 0
    while at < len(body):
        size = cuts[at % len(cuts)]
        found += list(reader.feed(body[at : at + size]))
        at += size
    reader.finish()
    assert [(dict(one.headers), one.content) for one in found] == parts


@given(st.binary(max_size=400), st.integers(1, 50))
@settings(max_examples=150, deadline=None)
def test_multipart_of_anything(noise: bytes, size: int) -> None:
    body = noise.replace(b"#", b"\r\n--b").replace(b"!", b"\r\n\r\n")
    reader = multipart.Reader(b"b", 50)
    try:
        for at in range(0, len(body), size):
            list(reader.feed(body[at : at + size]))
        reader.finish()
    except (multipart.MultipartBroken, multipart.PartTooLarge):
        pass


def test_multipart_is_bounded() -> None:
    reader = multipart.Reader(b"b", 10)
    with pytest.raises(multipart.PartTooLarge):
        list(reader.feed(b"--b\r\n\r\n" + b"x" * 40))
    with pytest.raises(multipart.MultipartBroken):
        list(multipart.Reader(b"b", 10).feed(b"--b\r\nA: " + b"x" * 5000))
    with pytest.raises(multipart.MultipartBroken):
        multipart.boundary_of(f'multipart/related; boundary="{"x" * 71}"', "application/dicom")


@given(st.text(alphabet='ab/*;=",. \\\t0.5q', max_size=80))
@settings(max_examples=200, deadline=None)
def test_accept_of_anything(text: str) -> None:
    try:
        for one in media.wanted(text, media.DICOM):
            one.meant("1.2.840.10008.1.2.1")
    except media.HeaderUnreadable:
        pass


def test_accept_by_quality() -> None:
    first = [
        (one.multipart, one.type, one.meant("1.2.840.10008.1.2"))
        for one in media.wanted(
            'application/dicom;q=0.2, multipart/related; type="application/dicom"; '
            "transfer-syntax=*;q=0.9, image/png;q=0, multipart/related;type=image/jls;q=0.5",
            media.DICOM,
        )
    ]
    assert first == [
        (True, "application/dicom", "1.2.840.10008.1.2"),
        (True, "image/jls", media.JPEG_LS),
        (False, "application/dicom", "1.2.840.10008.1.2.1"),
    ]
    with pytest.raises(media.NotAcceptable):
        media.choose("text/html, application/json;q=0", [media.JSON])


@given(st.lists(st.tuples(st.text(max_size=30), st.text(max_size=30)), max_size=5))
@settings(max_examples=150, deadline=None)
def test_queries_of_anything(parameters: list[tuple[str, str]]) -> None:
    try:
        found = query.parse(parameters)
    except query.QueryUnfit:
        return
    query.matches({"00100010": {"vr": "PN", "Value": [{"Alphabetic": "a"}]}}, found.matches)


@given(st.text(alphabet="ab*?", max_size=12), st.text(alphabet="ab", max_size=12))
@settings(max_examples=200, deadline=None)
def test_wildcards_are_those_of_a_shell(wanted: str, text: str) -> None:
    from fnmatch import fnmatchcase

    attributes = {"00100020": {"vr": "LO", "Value": [text]}}
    found = query.matches(attributes, query.parse([("PatientID", wanted)]).matches)
    assert found == (not wanted or set(wanted) == {"*"} or fnmatchcase(text, wanted))


def test_wildcards_take_no_time() -> None:
    attributes = {"00100020": {"vr": "LO", "Value": ["a" * 1000]}}
    assert not query.matches(attributes, query.parse([("PatientID", "*a" * 500 + "b")]).matches)


IMAGE = part10(ct_slice(1, "1.2.3", "1.2.4", side=4, PatientComments="第一行\r\n第二行"))


@given(st.lists(st.tuples(st.integers(132, len(IMAGE) - 1), st.integers(0, 255)), max_size=6))
@settings(max_examples=300, deadline=None)
def test_files_of_anything(changes: list[tuple[int, int]]) -> None:
    file = bytearray(IMAGE)
    for at, value in changes:
        file[at] = value
    with contextlib.suppress(ProtocolError):
        describe(bytes(file)).attributes()


def test_files_that_are_cut_anywhere() -> None:
    for end in range(len(IMAGE)):
        try:
            found = read(IMAGE[:end])
        except ProtocolError:
            continue
        assert len(found.elements) < len(read(IMAGE).elements)


@pytest.mark.parametrize("implicit", [False, True])
@pytest.mark.parametrize("little", [False, True])
def test_json_is_what_pydicom_makes(implicit: bool, little: bool) -> None:
    if implicit and not little:
        return
    image = ct_slice(1, "1.2.3", "1.2.4", side=4, PixelRepresentation=1)
    image.add_new(0x00280106, "SS", -5)
    image.WindowCenter, image.PixelSpacing = [40, 300.5], ["0.5", "0.25"]
    image.FrameIncrementPointer = 0x00181063
    image.RealWorldValueMappingSequence = [Dataset(), Dataset()]
    image.RealWorldValueMappingSequence[0].RealWorldValueSlope = 1.5
    image.PatientComments, image.OtherPatientIDs = "第一行\r\n第二行", ["甲", "乙"]
    image.SmallestImagePixelValue, image.EthnicGroup = -7, ""
    out = io.BytesIO()
    syntax = "1.2.840.10008.1.2" + ("" if implicit else ".1" if little else ".2")
    image.file_meta.TransferSyntaxUID = pydicom.uid.UID(syntax)
    pydicom.dcmwrite(
        out, image, implicit_vr=implicit, little_endian=little, enforce_file_format=True
    )
    found = describe(out.getvalue())
    ours = found.attributes()
    assert ours.pop("00083002")["Value"] == [syntax]
    pixels = ours.pop("7FE00010")
    assert pixels["BulkDataURI"] == "lz:7FE00010"
    theirs = pydicom.dcmread(io.BytesIO(out.getvalue())).to_json_dict()
    theirs.pop("7FE00010")
    assert ours == theirs
    whole = with_addresses(found.json(), "https://h/i")
    assert b'"BulkDataURI":"https://h/i/bulkdata/7FE00010"' in whole
