"""Images: what a box says of each one, what the hub answers, and the sheets that they come to.

An image is named by its content: a box keeps two different images under one SOP Instance UID
beside each other and flags the later one, and one that is sent again is the same one. Keys are
hashes over node and UID, so that no identifier of a patient is ever a plain index.
"""

import hashlib
import re
from typing import Annotated, ClassVar, Final

import msgspec

from .errors import RecordError
from .identity import NodeId
from .records import Body, Milliseconds
from .sheets import Index, Sheet, Sheets

STREAM: Final = "record.imaging"

UPLOAD_PATH: Final = "/images/v1"
"""At the hub's HTTPS: ``/<image key>/original`` and ``/<image key>/preview``; docs/imaging.md."""

Key = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$")]
Digest = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
Uid = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
Text = Annotated[str, msgspec.Meta(max_length=400)]

_REPORTS: Final = "1.2.840.10008.5.1.4.1.1.88."
_UID = re.compile(r"[0-9]+(?:\.[0-9]+)*")  # old modalities do write leading zeros


MAYBE: Final = "maybe"
WRITTEN_ON: Final = frozenset({"US", "IVUS", "ES", "SC", "OT", "XC", "SM", "GM", "DOC"})
"""Modalities that write name and number into the picture, as a rule: ultrasound, endoscopes, and
whatever was captured from a screen."""

MAX_IMAGES: Final = 5000
"""Of a study that are shown."""


CINE_FRAMES: Final = 16
"""So many frames of a cine, at most, are in its preview."""


def cine_frames(frames: int) -> int:
    """How many frames the preview of an image has beside its picture: none of a single one."""
    return min(frames, CINE_FRAMES) if frames > 1 else 0


def is_uid(text: str) -> bool:
    """Whether ``text`` can be a UID (PS3.5, 9.1): digits and single dots, 64 characters."""
    return len(text) <= 64 and _UID.fullmatch(text) is not None


def study_key(node: NodeId | str, study_uid: str) -> str:
    """Key of a study of a node: 32 hexadecimal digits."""
    return _key("study", node, study_uid)


def instance_key(node: NodeId | str, sha256: str) -> str:
    """Key of an image of a node by its content: 32 hexadecimal digits."""
    return _key("instance", node, sha256)


def scanner_key(node: NodeId | str, title: str, address: str) -> str:
    """Key of a modality of a node: its AE title at its address."""
    return _key("scanner", node, address, title)


def _key(kind: str, *parts: str) -> str:
    return hashlib.sha256(f"lz/1 {kind}\0{'|'.join(parts)}".encode()).hexdigest()[:32]


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """Who the modality says that this is. Claims of a device, never an identity of ours."""

    patient_id: Text = ""
    issuer: Text = ""
    name: Text = ""
    """As text: components by ``^``, groups by ``=``."""
    birth_date: Text = ""
    sex: Text = ""
    accession: Text = ""
    charset: str = ""
    """Where the text comes from: ``declared``, ``utf-8``, ``gb18030``, ``unreadable``."""
    declared: Text = ""
    """Specific Character Set as it was sent."""
    raw_name: Text = ""
    """The name's own bytes in hexadecimal, where they are not what is declared."""


# -- records


class ImageStored(Body, frozen=True, kw_only=True):
    """An image is durable at the box: its manifest, one record for each image."""

    instance: Key
    study: Key
    sha256: Digest
    """Of the Part 10 file, which is what is uploaded."""
    size: Annotated[int, msgspec.Meta(ge=1)]
    sop_class: Uid
    sop_uid: Uid
    study_uid: Uid
    series_uid: Uid
    transfer_syntax: Uid
    modality: Text = ""
    series_number: int | None = None
    instance_number: int | None = None
    rows: int = 0
    columns: int = 0
    frames: int = 1
    study_date: Text = ""
    study_description: Text = ""
    series_description: Text = ""
    sent: Sent = Sent()
    scanner: Key | str = ""
    received_ms: Milliseconds
    """By the box's clock."""
    device_time: Text = ""
    """By the modality's clock when it was taken: a DICOM DT as it was said, often without zone."""
    differs: bool = False
    """Another image with this SOP Instance UID, and not these bytes, came before it."""
    burned_in: Text = ""
    """Text within the pixels that may name the patient: ``yes``, ``no``, ``maybe`` where only the
    kind of modality tells; empty where nothing does."""


class ImageReceived(Body, frozen=True, kw_only=True):
    """The hub's receipt: the image is there, whole, its hash compared, and durable."""

    instance: Key
    sha256: Digest
    received_ms: Milliseconds


class StudySeen(Body, frozen=True, kw_only=True):
    """An expert opened the study at the hub, with ``images`` of its originals there: what came
    later was not seen by that."""

    study: Key
    seen_by: Text
    seen_ms: Milliseconds
    images: Annotated[int, msgspec.Meta(ge=0)] = 0


class ScannerAdmitted(Body, frozen=True, kw_only=True):
    """A named person lets a modality in."""

    scanner: Key
    title: Text
    address: Text
    by: str
    """Account id."""
    by_name: Text = ""


class ScannerRemoved(Body, frozen=True, kw_only=True):
    """A named person shuts it out again."""

    scanner: Key
    by: str
    by_name: Text = ""


class ScannerSet(Body, frozen=True, kw_only=True):
    """What a named person allows an admitted modality beyond sending, and where it listens."""

    scanner: Key
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 0
    may_query: bool = False
    commits_here: bool = False
    by: str
    by_name: Text = ""


KINDS: Final[dict[str, dict[int, type[Body]]]] = {
    "image.stored": {1: ImageStored},
    "image.received": {1: ImageReceived},
    "study.seen": {1: StudySeen},
    "ae.admitted": {1: ScannerAdmitted},
    "ae.removed": {1: ScannerRemoved},
    "ae.set": {1: ScannerSet},
}

# -- sheets

STORED, SENT, SAFE = "stored", "sent", "safe"
UNASSIGNED, ASSIGNED = "unassigned", "assigned"


class Study(Sheet, frozen=True, kw_only=True):
    """What is known of a study, and whose it is. Numbers count images, also flagged ones."""

    SHEET: ClassVar[str] = "study"

    id: str
    node: str
    uid: str
    patient_id: str = ""
    """Ours; empty while it waits in the tray, where the reason stands."""
    modalities: tuple[str, ...] = ()
    date: str = ""
    description: str = ""
    sent: Sent = Sent()
    stored: int = 0
    received: int = 0
    flagged: int = 0
    size: int = 0
    first_ms: int = 0
    last_ms: int = 0
    seen_by: str = ""
    seen_ms: int = 0
    seen_images: int = 0

    def index(self) -> Index:
        state = ASSIGNED if self.patient_id else UNASSIGNED
        return Index(self.id, self.patient_id, state, self.last_ms)

    def tokens(self) -> tuple[tuple[str, str], ...]:
        return (("uid", self.uid),)


class Instance(Sheet, frozen=True, kw_only=True):
    """One image. ``state``: stored; sent, the receipt is still to come; safe, it came."""

    SHEET: ClassVar[str] = "instance"

    id: str
    study: str
    node: str
    sha256: str
    size: int
    sop_class: str
    sop_uid: str
    series_uid: str
    transfer_syntax: str
    modality: str = ""
    series_number: int | None = None
    instance_number: int | None = None
    rows: int = 0
    columns: int = 0
    frames: int = 1
    series_description: str = ""
    device_time: str = ""
    """By the modality's clock."""
    stored_ms: int = 0
    """By the box's clock."""
    received_ms: int = 0
    """By the hub's clock, when it had all of it; 0 before."""
    differs: bool = False
    burned_in: str = ""
    preview: int = 0
    """Bytes of its preview, which is here; 0: there is none."""
    state: str = STORED

    def index(self) -> Index:
        return Index(self.id, self.study, self.state, self.stored_ms)

    def tokens(self) -> tuple[tuple[str, str], ...]:
        return (("sop", self.sop_uid),)

    @property
    def cine(self) -> int:
        """Frames in its preview beside the picture; 0 of a single image."""
        return cine_frames(self.frames)

    @property
    def remarkable(self) -> bool:
        """Whether a reader must be told something of it."""
        return self.differs or self.burned_in in ("yes", MAYBE)

    @property
    def is_report(self) -> bool:
        """Whether it is a Structured Report."""
        return self.sop_class.startswith(_REPORTS)

    def order(self) -> tuple[str, int, int, str]:
        """Sorts the images of a study by series and place in it."""
        series = -1 if self.series_number is None else self.series_number
        number = -1 if self.instance_number is None else self.instance_number
        return (f"{series:012d}{self.series_uid}", number, self.stored_ms, self.sop_uid)


class Scanner(Sheet, frozen=True, kw_only=True):
    """A modality: ``admitted``, or ``removed``, or ``refused`` when it only ever knocked."""

    SHEET: ClassVar[str] = "scanner"

    id: str
    title: str
    address: str
    state: str
    by: str = ""
    by_name: str = ""
    seen_ms: int = 0
    """When it last called, and was let in or refused."""
    images: int = 0
    port: int = 0
    """Where it listens; 0: nobody said, so nothing can be sent to it."""
    may_query: bool = False
    """It may look for studies and fetch them."""
    commits_here: bool = False
    """Storage commitment says Success for what only this box holds: the modality may then delete
    the only other copy."""

    def index(self) -> Index:
        return Index(self.id, "", self.state, self.seen_ms)


ADMITTED, REMOVED, REFUSED = "admitted", "removed", "refused"

# -- what records mean


def images_of(sheets: Sheets, study: str) -> list[Instance]:
    """The images of a study, in reading order."""
    return sorted(sheets.find(Instance, owner=study, limit=MAX_IMAGES), key=Instance.order)


def check_names(node: NodeId | str, body: ImageStored) -> None:
    """RecordError if a manifest names study or image otherwise than its node must."""
    right = (study_key(node, body.study_uid), instance_key(node, body.sha256))
    if (body.study, body.instance) != right:
        raise RecordError("an image under a name that is not its own", code="image-misnamed")


def stored(sheets: Sheets, node: NodeId | str, body: ImageStored, patient_id: str = "") -> bool:
    """A manifest takes effect: True if the image is new. Once is as good as twice.

    ``patient_id``: whose the study is by what was joined before its first image came.
    """
    if sheets.get(Instance, body.instance) is not None:
        return False
    sheets.put(
        Instance(
            id=body.instance,
            study=body.study,
            node=node,
            sha256=body.sha256,
            size=body.size,
            sop_class=body.sop_class,
            sop_uid=body.sop_uid,
            series_uid=body.series_uid,
            transfer_syntax=body.transfer_syntax,
            modality=body.modality,
            series_number=body.series_number,
            instance_number=body.instance_number,
            rows=body.rows,
            columns=body.columns,
            frames=body.frames,
            series_description=body.series_description,
            device_time=body.device_time,
            stored_ms=body.received_ms,
            differs=body.differs,
            burned_in=body.burned_in,
        )
    )
    study = _study(sheets, node, body)
    sheets.put(
        msgspec.structs.replace(
            study,
            patient_id=study.patient_id or patient_id,
            modalities=tuple(sorted({*study.modalities, body.modality} - {""})),
            stored=study.stored + 1,
            flagged=study.flagged + body.differs,
            size=study.size + body.size,
            last_ms=max(study.last_ms, body.received_ms),
        )
    )
    return True


def _study(sheets: Sheets, node: NodeId | str, body: ImageStored) -> Study:
    return sheets.get(Study, body.study) or Study(
        id=body.study,
        node=node,
        uid=body.study_uid,
        date=body.study_date,
        description=body.study_description,
        sent=body.sent,
        first_ms=body.received_ms,
    )


def received(sheets: Sheets, body: ImageReceived) -> bool:
    """A receipt takes effect: True if the image was not safe before."""
    found = sheets.get(Instance, body.instance)
    if found is None or found.sha256 != body.sha256 or found.state == SAFE:
        return False
    sheets.put(msgspec.structs.replace(found, state=SAFE, received_ms=body.received_ms))
    study = sheets.get(Study, found.study)
    if study is not None:
        sheets.put(msgspec.structs.replace(study, received=study.received + 1))
    return True


def seen(sheets: Sheets, body: StudySeen) -> bool:
    """A study was opened by an expert: True if somebody saw more of it than anybody before."""
    found = sheets.get(Study, body.study)
    if found is None or (found.seen_by and body.images <= found.seen_images):
        return False
    sheets.put(
        msgspec.structs.replace(
            found, seen_by=body.seen_by, seen_ms=body.seen_ms, seen_images=body.images
        )
    )
    return True


def admitted(sheets: Sheets, node: NodeId | str, body: ScannerAdmitted) -> None:
    """A modality is let in from now on."""
    if body.scanner != scanner_key(node, body.title, body.address):
        raise RecordError("a modality under a name that is not its own", code="scanner-misnamed")
    before = sheets.get(Scanner, body.scanner)
    found = before or Scanner(
        id=body.scanner, title=body.title, address=body.address, state=ADMITTED
    )
    sheets.put(msgspec.structs.replace(found, state=ADMITTED, by=body.by, by_name=body.by_name))


def removed(sheets: Sheets, body: ScannerRemoved) -> None:
    """A modality is shut out, and loses what it was allowed; nothing happens if it is not known."""
    found = sheets.get(Scanner, body.scanner)
    if found is not None:
        none = {"may_query": False, "commits_here": False}
        who = {"by": body.by, "by_name": body.by_name}
        sheets.put(msgspec.structs.replace(found, state=REMOVED, **who, **none))


def changed(sheets: Sheets, body: ScannerSet) -> None:
    """What it is allowed from now on; RecordError for one that is not admitted."""
    found = sheets.get(Scanner, body.scanner)
    if found is None or found.state != ADMITTED:
        raise RecordError("only an admitted modality is allowed more", code="scanner-not-admitted")
    allowed = {"may_query": body.may_query, "commits_here": body.commits_here}
    sheets.put(msgspec.structs.replace(found, port=body.port, **allowed))
