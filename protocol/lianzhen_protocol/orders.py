"""Examinations: what a doctor orders, and what a modality says that it has done (MPPS).

An order's accession number and Study Instance UID follow from its id, so that an image that comes
back names its order, whichever of the two the modality kept. Keys of performed steps are hashes
over node and UID.
"""

import base64
import hashlib
from typing import Annotated, ClassVar, Final

import msgspec

from . import imaging
from .errors import RecordError
from .identity import NodeId
from .imaging import ImageStored, Key, Text, Uid
from .people import By, Patient
from .records import Body
from .sheets import Index, Sheet, Sheets

STREAM: Final = imaging.STREAM

ORDERED, STARTED, PERFORMED, CANCELLED = "ordered", "started", "performed", "cancelled"
OPEN: Final = (ORDERED, STARTED)
"""What a worklist shows."""

RUNNING, COMPLETED, DISCONTINUED = "in-progress", "completed", "discontinued"

MODALITIES: Final = ("US", "CT", "DX", "CR", "MR", "MG", "ES", "ECG", "XA", "OT")
"""What can be ordered (PS3.3, C.7.3.1.1.1)."""

MAX_IMAGES: Final = 5000
"""Of a performed step that are written down."""

_OURS: Final = "A"
_UUID: Final = "2.25."

Id = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$")]
Modality = Annotated[str, msgspec.Meta(pattern="^[A-Z]{2,5}$")]
Procedure = Annotated[
    str, msgspec.Meta(max_length=64, pattern=r"^[^\\\x00-\x1f]*\S[^\\\x00-\x1f]*$")
]
"""As DICOM's LO: one line, and no backslash."""
Reason = Annotated[str, msgspec.Meta(max_length=200)]


def accession(identity: str) -> str:
    """Accession number (SH, 16 characters) of an order's or a request's id."""
    return _OURS + base64.b32encode(bytes.fromhex(identity)[-9:]).decode().rstrip("=")


def study_uid(identity: str) -> str:
    """Study Instance UID of an order's or a request's id: a UUID as PS3.5, B.2 has it."""
    return f"{_UUID}{int(identity, 16)}"


def step_key(node: NodeId | str, sop_uid: str) -> str:
    """Key of a performed step of a node: 32 hexadecimal digits."""
    return hashlib.sha256(f"lz/1 procedure-step\0{node}|{sop_uid}".encode()).hexdigest()[:32]


# -- records


class OrderPlaced(Body, frozen=True, kw_only=True):
    """A doctor orders an examination of a registered patient."""

    id: Id
    patient: Id
    modality: Modality
    procedure: Procedure
    reason: Reason = ""
    by: By


class OrderCancelled(Body, frozen=True, kw_only=True):
    """It is not to be done any more."""

    id: Id
    by: By
    why: Reason = ""


class StepSeries(msgspec.Struct, frozen=True, kw_only=True):
    """A series that a performed step says it made."""

    uid: Uid
    description: Text = ""
    images: tuple[Uid, ...] = ()


class StepBegun(Body, frozen=True, kw_only=True):
    """A modality has begun: MPPS N-CREATE. Times are its own, as it said them."""

    step: Key
    sop_uid: Uid
    scanner: Key | str = ""
    station: Text = ""
    modality: Text = ""
    study_uid: Uid | str = ""
    accession: Text = ""
    number: Text = ""
    """Patient ID as the modality said it."""
    description: Text = ""
    begun: Text = ""


class StepChanged(Body, frozen=True, kw_only=True):
    """What the modality says further: MPPS N-SET. ``state`` ends it, once and for all."""

    step: Key
    state: Annotated[str, msgspec.Meta(pattern="^(in-progress|completed|discontinued)$")]
    ended: Text = ""
    description: Text = ""
    series: Annotated[tuple[StepSeries, ...], msgspec.Meta(max_length=500)] = ()


KINDS: Final[dict[str, dict[int, type[Body]]]] = {
    "order.placed": {1: OrderPlaced},
    "order.cancelled": {1: OrderCancelled},
    "step.begun": {1: StepBegun},
    "step.changed": {1: StepChanged},
}

# -- sheets


class Order(Sheet, frozen=True, kw_only=True):
    """An examination as it was ordered, and how it stands."""

    SHEET: ClassVar[str] = "order"

    id: str
    node: str
    patient_id: str
    modality: str
    procedure: str
    reason: str = ""
    by: By
    at_ms: int
    state: str = ORDERED
    cancelled_by: By = By()
    why: str = ""

    @property
    def accession(self) -> str:
        """Accession number."""
        return accession(self.id)

    @property
    def study_uid(self) -> str:
        """Study Instance UID that the modality is to use."""
        return study_uid(self.id)

    def index(self) -> Index:
        return Index(self.id, self.patient_id, self.state, self.at_ms)

    def tokens(self) -> tuple[tuple[str, str], ...]:
        return (("study", self.study_uid), ("accession", self.accession))


class Step(Sheet, frozen=True, kw_only=True):
    """What a modality says that it has done."""

    SHEET: ClassVar[str] = "procedure-step"

    id: str
    node: str
    sop_uid: str
    order: str = ""
    """Id of the order that it fulfils; empty where none is known."""
    patient_id: str = ""
    scanner: str = ""
    station: str = ""
    modality: str = ""
    study: str = ""
    """Key of the study that its images are in."""
    description: str = ""
    begun: str = ""
    ended: str = ""
    series: tuple[StepSeries, ...] = ()
    state: str = RUNNING
    at_ms: int = 0

    def index(self) -> Index:
        return Index(self.id, self.patient_id, self.state, self.at_ms)

    @property
    def images(self) -> int:
        """How many it says that it made."""
        return sum(len(one.images) for one in self.series)


# -- what records mean, the same on both sides; ``node`` is the box that says so


def placed(sheets: Sheets, node: NodeId | str, body: OrderPlaced, at_ms: int) -> None:
    """A new order. At the hub it may come before its patient, who is in another stream."""
    patient = sheets.get(Patient, body.patient)
    if patient is not None and patient.node != node:
        raise RecordError("an order is for a patient of its clinic", code="order-patient")
    if sheets.get(Order, body.id) is not None:
        raise RecordError("this order is placed already", code="order-known")
    sheets.put(
        Order(
            id=body.id,
            node=node,
            patient_id=body.patient,
            modality=body.modality,
            procedure=body.procedure,
            reason=body.reason,
            by=body.by,
            at_ms=at_ms,
        )
    )


def cancelled(sheets: Sheets, node: NodeId | str, body: OrderCancelled) -> None:
    """An order that nobody has begun is not to be done."""
    found = sheets.get(Order, body.id)
    if found is None or found.node != node:
        raise RecordError("there is no such order", code="order-unknown")
    if found.state != ORDERED:
        raise RecordError(f"it is {found.state} already", code="order-not-open")
    changed = {"state": CANCELLED, "cancelled_by": body.by, "why": body.why}
    sheets.put(msgspec.structs.replace(found, **changed))


def order_of(sheets: Sheets, node: NodeId | str, uid: str, number: str) -> Order | None:
    """The order that a Study Instance UID or an accession number is of."""
    for purpose, value in (("study", uid), ("accession", number)):
        for found in sheets.find_token(Order, purpose, value) if value else ():
            if found.node == node:
                return found
    return None


def image_came(sheets: Sheets, node: NodeId | str, body: ImageStored) -> None:
    """An image of an order: it is performed, unless the modality itself says how far it is."""
    number = body.sent.accession if body.sent.accession.startswith(_OURS) else ""
    uid = body.study_uid if body.study_uid.startswith(_UUID) else ""
    found = order_of(sheets, node, uid, number)
    if found is not None and found.state == ORDERED:
        sheets.put(msgspec.structs.replace(found, state=PERFORMED))


def begun(sheets: Sheets, node: NodeId | str, body: StepBegun, at_ms: int) -> None:
    """A step has begun, and so has its order."""
    if body.step != step_key(node, body.sop_uid):
        raise RecordError("a step under a name that is not its own", code="step-misnamed")
    if sheets.get(Step, body.step) is not None:
        raise RecordError("this step has begun already", code="step-known")
    order = order_of(sheets, node, body.study_uid, body.accession)
    study = imaging.study_key(node, body.study_uid) if body.study_uid else ""
    sheets.put(
        Step(
            id=body.step,
            node=node,
            sop_uid=body.sop_uid,
            order=order.id if order else "",
            patient_id=order.patient_id if order else "",
            scanner=body.scanner,
            station=body.station,
            modality=body.modality,
            study=study,
            description=body.description,
            begun=body.begun,
            at_ms=at_ms,
        )
    )
    if order is not None and order.state == ORDERED:
        sheets.put(msgspec.structs.replace(order, state=STARTED))


def changed(sheets: Sheets, node: NodeId | str, body: StepChanged) -> None:
    """A step goes on, or ends; one that has ended never changes again (PS3.4, F.7.2.2.2)."""
    found = sheets.get(Step, body.step)
    if found is None or found.node != node:
        raise RecordError("there is no such step", code="step-unknown")
    if found.state != RUNNING:
        raise RecordError("a step that has ended does not change", code="step-ended")
    sheets.put(
        msgspec.structs.replace(
            found,
            state=body.state,
            ended=body.ended or found.ended,
            description=body.description or found.description,
            series=body.series or found.series,
        )
    )
    order = sheets.get(Order, found.order) if found.order else None
    if order is None or order.state not in OPEN or body.state == RUNNING:
        return
    # What was broken off is to be done again, or taken back by whoever ordered it.
    state = PERFORMED if body.state == COMPLETED else ORDERED
    sheets.put(msgspec.structs.replace(order, state=state))
