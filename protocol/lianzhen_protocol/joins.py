"""How a study or readings come to a patient, and away again: never by a name alone.

A study joins by itself only if its PatientID is a patient number of this clinic, with the right
check digits, and a second identifier agrees and none contradicts. Readings join by the binding
of their device at their own time. Everything else waits as an ``Item`` in the unassigned tray,
with the reason, until a named person joins it; undone, it is what it was before.
"""

import re
import unicodedata
from collections.abc import Callable
from datetime import date
from enum import StrEnum
from typing import ClassVar, Final, NamedTuple

import msgspec

from .bindings import DeviceBound, DeviceReleased, LookAgain, bind, of_device, release
from .errors import PatientError
from .imaging import study_key
from .people import (
    By,
    Patient,
    Sex,
    by_number,
    folded_name,
    known_patient,
    patient_number,
)
from .records import Body
from .sheets import Index, Sheet, Sheets

WAITING: Final = "waiting"
JOINED: Final = "joined"
_DATE = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})")
GAP_MS: Final = 600_000
"""Readings of one device that nobody wears and that are further apart wait as two items."""


class ItemKind(StrEnum):
    """What can be joined to a patient."""

    STUDY = "study"
    READINGS = "readings"


class Reason(StrEnum):
    """Why an item waits; pages say it in words."""

    NO_NUMBER = "no-number"
    """The study came without PatientID."""
    NO_PATIENT_NUMBER = "no-patient-number"
    """Its PatientID has not the form of a patient number."""
    NUMBER_SLIP = "number-slip"
    """Its PatientID has wrong check digits: it was mistyped at the scanner."""
    NUMBER_UNKNOWN = "number-unknown"
    """Nobody at this clinic has that number."""
    BIRTH_DATE_DIFFERS = "birth-date-differs"
    SEX_DIFFERS = "sex-differs"
    NAME_DIFFERS = "name-differs"
    SECOND_MISSING = "second-missing"
    """The number is right, and nothing else agrees with the patient."""
    DEVICE_UNBOUND = "device-unbound"
    """Nobody wore the device then."""
    BINDING_CUT = "binding-cut"
    """Its binding was cut short afterwards."""
    TAKEN_OUT = "taken-out"
    """It had joined by the rule, and a person took it out again."""


class Claimed(msgspec.Struct, frozen=True, kw_only=True):
    """Whose a study says it is; what it leaves out is "" or None."""

    patient_id: str = ""
    name: str = ""
    """Person name as DICOM has it: components by ^, groups (Latin, hanzi) by =."""
    birth_date: date | None = None
    sex: Sex = Sex.UNKNOWN

    @classmethod
    def read(cls, patient_id: str, name: str, birth_date: str, sex: str) -> "Claimed":
        """From the text of DICOM attributes; what has not their form says nothing."""
        found = _DATE.fullmatch(birth_date.strip())
        try:
            born = date(*map(int, found.groups())) if found else None
        except ValueError:
            born = None
        known = sex.strip().upper()
        return cls(
            patient_id=patient_id,
            name=name,
            birth_date=born,
            sex=Sex(known) if known in ("M", "F") else Sex.UNKNOWN,
        )


class Match(NamedTuple):
    """The patient that an item belongs to, or the reason why it must wait."""

    patient: str = ""
    reason: Reason | None = None


class Join(msgspec.Struct, frozen=True, kw_only=True):
    """To whom, by whom (nobody: by the rule), when and why."""

    patient: str
    by: By
    at_ms: int
    why: str = ""


class Item(Sheet, frozen=True, kw_only=True):
    """A study, or a span of a device's readings, that waits or was joined by hand or rule."""

    SHEET: ClassVar[str] = "item"

    id: str
    """A study's own id; a span of readings has one made for it."""
    node: str
    """The clinic whose it is."""
    kind: ItemKind
    uid: str = ""
    """Study Instance UID: it proves that the study is this clinic's."""
    device: str = ""
    """Where it came from: AE title, or the device of the readings."""
    label: str = ""
    """What it is in a word or two: modality, body part."""
    claimed: Claimed = Claimed()
    from_ms: int
    to_ms: int
    """Of the readings, both included; of the study, when its first and last image came."""
    reason: Reason | None = None
    join: Join | None = None

    def index(self) -> Index:
        if self.join is None:
            return Index(self.id, "", WAITING, self.from_ms)
        return Index(self.id, self.join.patient, JOINED, self.from_ms)

    def tokens(self) -> tuple[tuple[str, str], ...]:
        worn = self.kind is ItemKind.READINGS
        return (("device", f"{self.node}/{self.device}"),) if worn else ()


class ItemJoined(Body, frozen=True):
    """An item as it stands once it is joined, by rule or by hand."""

    item: Item


class ItemUnjoined(Body, frozen=True):
    """The join is undone: the item waits again."""

    id: str
    by: By
    why: str
    reason: Reason | None = None
    """Why it waits from now on, if that is not why it waited before."""


KINDS: Final[dict[str, dict[int, type[Body]]]] = {
    "item.joined": {1: ItemJoined},
    "item.unjoined": {1: ItemUnjoined},
}

Give = Callable[[Sheets, str, str], None]
"""Called with (sheets, study id, patient id or ""): the study, if it is here, is theirs now."""


class Keepers(NamedTuple):
    """Who keeps the things that are joined."""

    study: Give
    readings: LookAgain


# -- matching


def match_study(sheets: Sheets, claimed: Claimed, node: str) -> Match:
    """Whose a study of a clinic is, by patient number and second identifier."""
    if not claimed.patient_id.strip():
        return Match(reason=Reason.NO_NUMBER)
    try:
        number = patient_number(claimed.patient_id)
    except PatientError as error:
        slip = error.code == "patient-number-check"
        return Match(reason=Reason.NUMBER_SLIP if slip else Reason.NO_PATIENT_NUMBER)
    found = [p for p in by_number(sheets, number) if p.node == node]
    if len(found) != 1:
        return Match(reason=Reason.NUMBER_UNKNOWN)
    reason = doubt(claimed, found[0])
    return Match(reason=reason) if reason else Match(patient=found[0].id)


def doubt(claimed: Claimed, patient: Patient) -> Reason | None:
    """What speaks against a study being this patient's, whose number it has; None for nothing."""
    if claimed.birth_date and patient.birth_date and claimed.birth_date != patient.birth_date:
        return Reason.BIRTH_DATE_DIFFERS
    if Sex.UNKNOWN not in (claimed.sex, patient.sex) and claimed.sex is not patient.sex:
        return Reason.SEX_DIFFERS
    same = same_name(claimed.name, patient.name)
    if same is False:
        return Reason.NAME_DIFFERS
    born = claimed.birth_date is not None and claimed.birth_date == patient.birth_date
    return None if born or same else Reason.SECOND_MISSING


def same_name(claimed: str, name: str) -> bool | None:
    """Whether a DICOM person name is this name; None where the scripts cannot be compared.

    Latin letters say nothing of hanzi: neither ``Wang^Fang`` nor its absence proves anything.
    """
    wanted = folded_name(name)
    groups = [folded_name(group) for group in claimed.split("=")]
    comparable = [group for group in groups if group and _latin(group) == _latin(wanted)]
    return wanted in comparable if comparable else None


def _latin(text: str) -> bool:
    return all("LATIN" in unicodedata.name(sign, "") or sign.isdecimal() for sign in text)


def patient_at(sheets: Sheets, node: str, device: str, at_ms: int) -> str:
    """Whose a reading is: the wearer's at its own (corrected) time; "" if it must wait.

    Readings that nobody wore the device for may have been joined by hand.
    """
    return wearers(sheets, node, device)(at_ms)


def wearers(sheets: Sheets, node: str, device: str) -> Callable[[int], str]:
    """``patient_at`` for many readings of one device."""
    bound = of_device(sheets, node, device)
    joined: list[Item] | None = None

    def at(at_ms: int) -> str:
        nonlocal joined
        if binding := next((each for each in bound if each.covers(at_ms)), None):
            return binding.patient
        joined = _of_device(sheets, node, device) if joined is None else joined
        for item in joined:
            if item.join and item.from_ms <= at_ms <= item.to_ms:
                return item.join.patient
        return ""

    return at


def patient_of(sheets: Sheets, study: str) -> str:
    """Whose a study is by what was joined; "" while it waits.

    At the hub a join may come before its study: whoever stores a study asks here.
    """
    item = sheets.get(Item, study)
    return item.join.patient if item and item.join else ""


# -- the tray


def tray(sheets: Sheets) -> list[Item]:
    """What waits, the longest first."""
    return sheets.find(Item, state=WAITING)


def wait_reading(
    sheets: Sheets,
    node: str,
    device: str,
    at_ms: int,
    new_id: str,
    reason: Reason = Reason.DEVICE_UNBOUND,
) -> Item:
    """A reading that nobody wore the device for: into the item beside it, or one of its own."""
    for item in _of_device(sheets, node, device):
        if item.join is None and item.from_ms - GAP_MS <= at_ms <= item.to_ms + GAP_MS:
            wider = msgspec.structs.replace(
                item, from_ms=min(item.from_ms, at_ms), to_ms=max(item.to_ms, at_ms)
            )
            if wider != item:
                sheets.put(wider)
            return wider
    fresh = Item(
        id=new_id,
        node=node,
        kind=ItemKind.READINGS,
        device=device,
        from_ms=at_ms,
        to_ms=at_ms,
        reason=reason,
    )
    sheets.put(fresh)
    return fresh


def _of_device(sheets: Sheets, node: str, device: str) -> list[Item]:
    return sheets.find_token(Item, "device", f"{node}/{device}")


def _trim(sheets: Sheets, node: str, device: str, from_ms: int) -> None:
    """The device is worn from then on: what waits for want of a wearer gets shorter."""
    for item in _of_device(sheets, node, device):
        if item.join is not None or item.to_ms < from_ms:
            continue
        if item.from_ms >= from_ms:
            sheets.delete(Item, item.id)
        else:
            sheets.put(msgspec.structs.replace(item, to_ms=from_ms - 1))


# -- confirming


def confirm(patient: Patient, number: str, second: str) -> None:
    """Two identifiers as a person typed or scanned them; the second is birth date or name.

    PatientError: ``confirm-number`` or ``confirm-second``, and nothing is joined or bound.
    """
    if patient_number(number) != patient.number:
        raise PatientError("this is another patient's number", code="confirm-number")
    digits = re.sub(r"\D", "", unicodedata.normalize("NFKC", second))
    born = patient.birth_date
    if born is not None and digits == f"{born:%Y%m%d}":
        return
    if folded_name(second) != folded_name(patient.name):
        raise PatientError("birth date or name are another patient's", code="confirm-second")


# -- meanings, the same on both sides; ``node`` is the box whose devices and items they are


def bound(sheets: Sheets, body: DeviceBound, keepers: Keepers, node: str) -> None:
    """The patient wears the device from then on; what waited for a wearer since is theirs."""
    for item in _of_device(sheets, node, body.device):
        if item.join and item.to_ms >= body.from_ms and item.join.patient != body.patient:
            raise PatientError(
                "readings of that time were joined to another patient: undo that first",
                code="binding-joined",
            )
    bind(sheets, body, keepers.readings, node)
    _trim(sheets, node, body.device, body.from_ms)


def released(sheets: Sheets, body: DeviceReleased, keepers: Keepers, node: str) -> None:
    """The patient wore it until then; whose later readings are, is to be found out."""
    release(sheets, body, keepers.readings, node)


def join(sheets: Sheets, body: ItemJoined, keepers: Keepers, node: str) -> None:
    """The item is that patient's."""
    item = body.item
    if item.join is None:
        raise PatientError("a join names a patient", code="join-empty")
    _of_clinic(sheets, item, item.join, node)
    if item.kind is ItemKind.STUDY and item.id != study_key(node, item.uid):
        raise PatientError("a study under a name that is not its own", code="item-differs")
    known = sheets.get(Item, item.id)
    if known is not None and known.join is not None:
        raise PatientError("it is joined already: undo that first", code="join-twice")
    if known is not None and (known.kind, known.node) != (item.kind, item.node):
        raise PatientError("this is another item", code="item-differs")
    sheets.put(item)
    _tell(sheets, item, keepers, node)


def unjoin(sheets: Sheets, body: ItemUnjoined, keepers: Keepers, node: str) -> None:
    """The item waits again, as before it was joined."""
    item = sheets.get(Item, body.id)
    if item is None:
        raise PatientError("there is no such item", code="item-unknown")
    if item.join is None:
        raise PatientError("it is not joined", code="join-none")
    _of_clinic(sheets, item, item.join, node)
    reason = body.reason or item.reason or Reason.TAKEN_OUT
    waiting = msgspec.structs.replace(item, join=None, reason=reason)
    sheets.put(waiting)
    _tell(sheets, waiting, keepers, node)


def _of_clinic(sheets: Sheets, item: Item, found: Join, node: str) -> None:
    if {item.node, known_patient(sheets, found.patient).node} != {node}:
        raise PatientError("a box joins to patients of its own clinic", code="patient-foreign")


def _tell(sheets: Sheets, item: Item, keepers: Keepers, node: str) -> None:
    match item.kind:
        case ItemKind.STUDY:
            keepers.study(sheets, item.id, item.join.patient if item.join else "")
        case ItemKind.READINGS:
            keepers.readings(sheets, node, item.device, item.from_ms, item.to_ms + 1)
