"""Images without their patient, for teaching: the Basic Application Level Confidentiality Profile.

``confidentiality.txt`` is the standard's table of actions (PS3.15, Table E.1-1); what it leaves to
the object's conformance is done so that the file stays one: an attribute is emptied or given a
dummy rather than removed. It is applied within sequences too. Beyond the table: private attributes
go, and whatever our dictionary does not know; every UID is replaced that is not the standard's own;
names of persons and days are emptied. UIDs are replaced by the same ones wherever they stand in one
export. Dates are removed; or shifted, all by the same number of days (113107, modified dates).

Pixels are not looked at. What may have text burned in is for a person to decide: see the console.
"""

import hmac
import io
import struct
from datetime import date, timedelta
from functools import cache
from pathlib import Path
from typing import Any, Final

import msgspec

_TABLE: Final = Path(__file__).with_name("confidentiality.txt")
_PIXELS: Final = 0x7FE00010
_PATIENT: Final = 0x0010  # the group of birth dates, which are never kept
_STANDARD: Final = "1.2.840.10008."
_NAME_GIVEN: Final = "TEACHING^CASE"
_MAX_DEPTH: Final = 32
_DATES: Final = frozenset({"DA", "DT", "TM"})
_DUMMIES: Final[dict[str, object]] = {
    "AE": "ANY", "AS": "000Y", "CS": "NONE", "DA": "19000101", "DS": "0",
    "DT": "19000101000000", "IS": "0", "LO": "NONE", "LT": "NONE", "PN": "NONE", "SH": "NONE",
    "ST": "NONE", "TM": "000000", "UC": "NONE", "UR": "NONE", "UT": "NONE",
    "OB": b"\0\0", "OW": b"\0\0", "UN": b"\0\0", "OF": bytes(4), "OD": bytes(8), "OL": bytes(4),
    "OV": bytes(8), "US": 0, "SS": 0, "UL": 0, "SL": 0, "FL": 0.0, "FD": 0.0, "UV": 0, "SV": 0,
}  # fmt: skip


class NotCleaned(ValueError):
    """It is no image, or cannot be read: it stays out of the export. The text says why."""


class Plan(msgspec.Struct, frozen=True):
    """Of one export. ``key`` makes its UIDs; ``subject`` is the patient's number in it."""

    key: bytes
    subject: str
    shift_days: int | None = None
    """Dates are moved by so many days; None: they are removed."""


@cache
def actions() -> dict[str, str]:
    """The table: attribute as eight hexadecimal digits, ``x`` for any, to its action."""
    lines = _TABLE.read_text(encoding="utf-8").splitlines()
    rows = (line.split() for line in lines if not line.startswith("#"))
    return {row[0].upper().replace("X", "x"): row[1] for row in rows}


def action_of(tag: int) -> str:
    """What is done to an attribute by the table; "" if it is not in it."""
    name = f"{tag:08X}"
    if name.startswith("50"):
        return actions()["50xxxxxx"]
    if name.startswith("60") and (found := actions().get(f"60xx{name[4:]}")):
        return found
    return actions().get(name, "")


def deidentify(file: bytes, plan: Plan) -> bytes:
    """A Part 10 file of an image without its patient, in the transfer syntax that it has."""
    from pydicom import dcmread
    from pydicom.dataset import FileMetaDataset

    image = dcmread(io.BytesIO(file))
    if _PIXELS not in image:
        raise NotCleaned("no image")
    syntax = image.file_meta.TransferSyntaxUID
    _Cleaner(plan).clean(image, 0)
    _mark(image, plan)
    image.preamble = bytes(128)
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = syntax
    out = io.BytesIO()
    image.save_as(out, enforce_file_format=True)
    return out.getvalue()


def _mark(image: Any, plan: Plan) -> None:
    """Say in the file what was done to it (PS3.15, E.1.1, 6)."""
    from pydicom.dataset import Dataset

    shifted = plan.shift_days is not None
    codes = [("113100", "Basic Application Confidentiality Profile")]
    if shifted:
        codes.append(("113107", "Retain Longitudinal Temporal Information Modified Dates Option"))
    image.PatientName, image.PatientID = _NAME_GIVEN, plan.subject
    image.PatientIdentityRemoved = "YES"
    image.DeidentificationMethod = "PS3.15 E.1 Basic Profile"
    image.LongitudinalTemporalInformationModified = "MODIFIED" if shifted else "REMOVED"
    image.DeidentificationMethodCodeSequence = []
    for value, meaning in codes:
        code = Dataset()
        code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, "DCM", meaning
        image.DeidentificationMethodCodeSequence.append(code)


class _Cleaner:
    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    def clean(self, data_set: Any, depth: int) -> None:
        """Every attribute of a data set and of what lies in it. What stays keeps its bytes."""
        if depth > _MAX_DEPTH:
            raise NotCleaned("nested too deep")
        for tag in list(data_set.keys()):
            vr = _representation(data_set, tag)
            self._attribute(data_set, int(tag), vr, depth)

    def _attribute(self, data_set: Any, tag: int, vr: str, depth: int) -> None:
        action = action_of(tag) or _beyond(vr)
        if (tag >> 16) % 2 or not vr or action == "X":
            del data_set[tag]
        elif vr == "SQ" and action in ("", "U", "X/Z/U*"):
            for item in data_set[tag].value:
                self.clean(item, depth + 1)
        elif (
            vr in _DATES and action and self._plan.shift_days is not None and tag >> 16 != _PATIENT
        ):
            _set(data_set, tag, vr, self._moved(vr, data_set[tag].value))
        elif vr == "UI":
            self._uids(data_set, tag)
        elif vr == "SQ":
            _set(data_set, tag, vr, [])
        elif action in ("Z", "X/Z", "X/Z/U*"):
            _set(data_set, tag, vr, None)
        elif action:  # D, Z/D, X/D, X/Z/D
            _set(data_set, tag, vr, _DUMMIES.get(vr))

    def _moved(self, vr: str, value: Any) -> Any:
        """A DA or DT by so many days, or empty where it is none; a time of day stays."""
        many = [value] if isinstance(value, str) else list(value or ())
        return [str(each) if vr == "TM" else self._day_moved(str(each)) for each in many] or None

    def _day_moved(self, text: str) -> str:
        try:
            day = date(int(text[:4]), int(text[4:6]), int(text[6:8]))
            return (day + timedelta(days=self._plan.shift_days or 0)).strftime("%Y%m%d") + text[8:]
        except (ValueError, OverflowError):
            return ""

    def _uids(self, data_set: Any, tag: int) -> None:
        found = data_set[tag].value
        many = [found] if isinstance(found, str) else list(found or ())
        replaced = [uid if str(uid).startswith(_STANDARD) else self._uid(str(uid)) for uid in many]
        _set(data_set, tag, "UI", replaced or None)

    def _uid(self, uid: str) -> str:
        """Another one, the same for the same in this export (PS3.5, B.2)."""
        if not uid:
            return uid
        digest = hmac.digest(self._plan.key, uid.encode(), "sha256")
        high, low = struct.unpack(">QQ", digest[:16])
        return f"2.25.{high << 64 | low}"


def _beyond(vr: str) -> str:
    """What is done to an attribute that the table does not have: what names a person or a day."""
    return "Z" if vr in ("PN", "DA", "DT") else ""


def _representation(data_set: Any, tag: Any) -> str:
    """The VR, by the file or else our dictionary; "" if nobody knows."""
    from pydicom.datadict import dictionary_VR

    found = data_set.get_item(tag)
    if found is not None and found.VR not in (None, "UN"):
        return str(found.VR)
    try:
        return dictionary_VR(tag).split()[0]
    except KeyError:
        return ""


def _set(data_set: Any, tag: int, vr: str, value: object) -> None:
    from pydicom.dataelem import DataElement

    one = value[0] if isinstance(value, list) and len(value) == 1 and vr != "SQ" else value
    data_set[tag] = DataElement(tag, vr, one)
