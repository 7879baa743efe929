"""A modality for tests: images of its own, sent by pynetdicom as honestly or badly as one likes."""

import hashlib
import io
import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import (
    ComprehensiveSRStorage,
    CTImageStorage,
    ExplicitVRLittleEndian,
    UltrasoundMultiFrameImageStorage,
    generate_uid,
)
from pynetdicom import AE
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from lianzhen_edge.dicom.arrival import part10_head

NAME = "测试^患者"

DCMTK = Path("/usr/bin")
"""pynetdicom brings programs of the same names, which would come first in an environment."""


def ct_slice(number: int, study: str, series: str, side: int = 64, **more: Any) -> Dataset:
    """A CT slice of noise: no two are equal, and none compresses to anything else."""
    noise = np.random.default_rng([number, side]).integers(0, 4096, (side, side), dtype=np.uint16)
    found = Dataset()
    found.file_meta = FileMetaDataset()
    found.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    found.SpecificCharacterSet = "ISO_IR 192"
    found.SOPClassUID, found.SOPInstanceUID = CTImageStorage, generate_uid()
    found.StudyInstanceUID, found.SeriesInstanceUID = study, series
    found.Modality, found.StudyDate = "CT", "20261124"
    found.PatientName, found.PatientID = NAME, "P-0001"
    found.SeriesNumber, found.InstanceNumber = 1, number
    found.Rows = found.Columns = side
    found.SamplesPerPixel, found.PhotometricInterpretation = 1, "MONOCHROME2"
    found.BitsAllocated = found.BitsStored = 16
    found.HighBit, found.PixelRepresentation = 15, 0
    found.PixelData = noise.tobytes()
    for keyword, value in more.items():
        setattr(found, keyword, value)
    return found


def series(folder: Path, count: int, side: int = 64) -> list[Path]:
    """Files of a noisy series."""
    study, own = generate_uid(), generate_uid()
    paths = [folder / f"{number:03d}.dcm" for number in range(count)]
    for number, path in enumerate(paths):
        scale = {"RescaleIntercept": "-1024", "RescaleSlope": "1"}
        ct_slice(number, study, own, side, **scale).save_as(path, enforce_file_format=True)
    return paths


def _code(value: str, scheme: str, meaning: str) -> Items:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, meaning
    return Items([code])


def _item(relation: str, kind: str, concept: Items, *inner: Dataset, **more: Any) -> Dataset:
    found = Dataset()
    found.RelationshipType, found.ValueType, found.ConceptNameCodeSequence = relation, kind, concept
    if kind == "CONTAINER":
        found.ContinuityOfContent = "SEPARATE"
    if inner:
        found.ContentSequence = Items(inner)
    for keyword, value in more.items():
        setattr(found, keyword, value)
    return found


def _number(name: Items, value: str, unit: str, *inner: Dataset) -> Dataset:
    measured = Dataset()
    measured.NumericValue = value
    measured.MeasurementUnitsCodeSequence = _code(unit, "UCUM", unit)
    found = _item("CONTAINS", "NUM", name, *inner)
    found.MeasuredValueSequence = Items([measured])
    return found


def ultrasound_report(charset: str = "GB18030") -> Dataset:
    """An adult echocardiography report (PS3.16, TID 5200) with a few of its measurements."""
    mean = _item(
        "HAS CONCEPT MOD", "CODE", _code("121401", "DCM", "Derivation"),
        ConceptCodeSequence=_code("R-00317", "SRT", "平均值"),
    )  # fmt: skip
    fetus = _item("HAS CONCEPT MOD", "TEXT", _code("11951-1", "LN", "Fetus ID"), TextValue="胎儿 A")
    ventricle = _item(
        "CONTAINS", "CONTAINER", _code("T-32600", "SRT", "左心室"), fetus,
        _number(_code("29436-3", "LN", "左室舒张末期内径"), "47.5", "mm", mean),
        _number(_code("18043-0", "LN", "Ejection Fraction"), "62", "%"),
    )  # fmt: skip
    found = _item(
        "", "CONTAINER", _code("125200", "DCM", "Adult Echocardiography Procedure Report"),
        _item(
            "CONTAINS", "CONTAINER", _code("111028", "DCM", "超声心动图"), ventricle,
            _number(_code("111029", "DCM", "Count"), "3", "1"),
        ),
    )  # fmt: skip
    del found.RelationshipType
    found.file_meta = FileMetaDataset()
    found.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    found.SpecificCharacterSet, found.Modality = charset, "SR"
    found.SOPClassUID, found.SOPInstanceUID = ComprehensiveSRStorage, generate_uid()
    found.StudyInstanceUID, found.SeriesInstanceUID = generate_uid(), generate_uid()
    found.PatientName, found.PatientID, found.StudyDate = NAME, "P-0001", "20261124"
    found.SeriesNumber, found.InstanceNumber = 9, 1
    found.CompletionFlag, found.VerificationFlag = "COMPLETE", "UNVERIFIED"
    return found


def ultrasound_cine(frames: int = 24, side: int = 96) -> Dataset:
    """A colour cine: speckle within a sector that moves, no two frames equal."""
    rng = np.random.default_rng(frames)
    rows, columns = np.mgrid[0:side, 0:side] - side / 2
    pictures = []
    for number in range(frames):
        inside = np.hypot(rows, columns) < side / 4 * (1.2 + np.sin(number / 4))
        grey = np.where(inside, rng.normal(140, 25, (side, side)), rng.normal(20, 4, (side, side)))
        pictures.append(np.stack([grey, grey, grey + 8 * inside], -1).clip(0, 255).astype(np.uint8))
    found = ct_slice(
        1, generate_uid(), generate_uid(), side=side, Modality="US", NumberOfFrames=frames,
        SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0,
        BitsAllocated=8, BitsStored=8, HighBit=7, FrameTime="40", SeriesDescription="四腔心",
    )  # fmt: skip
    found.SOPClassUID = UltrasoundMultiFrameImageStorage
    found.PixelData = b"".join(picture.tobytes() for picture in pictures)
    return found


def data_set(found: Dataset) -> bytes:
    """A data set's bytes in explicit little endian, without any file around it."""
    out = io.BytesIO()
    pydicom.dcmwrite(out, found, implicit_vr=False, little_endian=True, enforce_file_format=False)
    return out.getvalue()


def part10(sop_class: str, sop_uid: str, transfer_syntax: str, content: bytes) -> bytes:
    """The file that the box makes of a data set."""
    return part10_head(sop_class, sop_uid, transfer_syntax) + content


def pixels(file: bytes) -> str:
    """Hash of the pixels as they lie in a Part 10 file."""
    return hashlib.sha256(pydicom.dcmread(io.BytesIO(file)).PixelData).hexdigest()


def elements(file: bytes) -> dict[str, str]:
    """Hash of each element that is not private, also within sequences, by its place; and of the
    pixels. How a file encodes them is not in it."""
    found: dict[str, str] = {}

    def walk(items: Dataset, path: str) -> None:
        for element in items:
            if element.tag.is_private:
                continue
            place = f"{path}{element.tag}"
            if element.VR == "SQ":
                for number, item in enumerate(element.value):
                    walk(item, f"{place}/{number}/")
                continue
            value = element.value
            content = value if isinstance(value, bytes) else repr(value).encode()
            found[place] = hashlib.sha256(content).hexdigest()

    walk(pydicom.dcmread(io.BytesIO(file)), "")
    return found


class Answer(NamedTuple):
    """What came back for a C-STORE."""

    status: int
    comment: str


class Sender:
    """An open association."""

    def __init__(self, association: Any) -> None:
        self._association = association

    def store(
        self, content: bytes, sop_uid: str, sop_class: str = CTImageStorage, number: int = 1
    ) -> Answer:
        """One C-STORE with exactly these bytes."""
        request = C_STORE()
        request.MessageID = number
        request.AffectedSOPClassUID = sop_class
        request.AffectedSOPInstanceUID = sop_uid
        request.Priority = 2
        request.DataSet = io.BytesIO(content)
        (context,) = (
            each
            for each in self._association.accepted_contexts
            if each.abstract_syntax == CTImageStorage
        )
        self._association._reactor_checkpoint.clear()
        try:
            self._association.dimse.send_msg(request, context.context_id)
            _, answer = self._association.dimse.get_msg(block=True)
        finally:
            self._association._reactor_checkpoint.set()
        return Answer(answer.Status, answer.ErrorComment or "")

    def echo(self) -> int:
        """C-ECHO."""
        return int(self._association.send_c_echo().Status)


@contextmanager
def association(port: int, title: str = "CT1") -> Iterator[Sender | None]:
    """An association of our own; None if it was rejected."""
    entity = AE(ae_title=title)
    entity.add_requested_context(CTImageStorage, [ExplicitVRLittleEndian])
    entity.add_requested_context(Verification)
    opened = entity.associate("127.0.0.1", port)
    try:
        yield Sender(opened) if opened.is_established else None
    finally:
        if opened.is_established:
            opened.release()
        entity.shutdown()


class Sent(NamedTuple):
    """What dcmtk's storescu said."""

    good: list[Path]
    """Files that it was told Success for, in order."""
    ended: int


def storescu(port: int, files: Sequence[Path], *options: str, title: str = "CT1") -> Sent:
    """Send files in one association by dcmtk, which is none of ours."""
    command = [str(DCMTK / "storescu"), "-v", *options, "--aetitle", title, "127.0.0.1", str(port)]
    done = subprocess.run(
        [*command, *map(str, files)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"TCP_NODELAY": "1"},
        timeout=300,
    )
    good, current = [], None
    for line in (done.stdout + done.stderr).splitlines():
        if found := re.search(r"Sending file: (.*)", line):
            current = Path(found[1])
        if "Received Store Response (Success)" in line and current is not None:
            good.append(current)
    return Sent(good, done.returncode)
