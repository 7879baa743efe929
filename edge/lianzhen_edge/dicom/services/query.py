"""Study Root Query/Retrieve (PS3.4, C) for workstations that a person has allowed to look.

Names are the modality's own, as they stand in the images. Retrieved images go in the transfer
syntax in which they came, or not at all.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from lianzhen_edge.dicom.core import Core, CoreRefused
from lianzhen_edge.dicom.dimse import CANCEL, SUCCESS, Field, Link, Refusal, Request, Response, Tag
from lianzhen_protocol.imaging import Instance, Study, is_uid

from . import matching
from .asking import BROKEN, MAX_ANSWERS, PENDING_ANSWER, TOO_MANY, answers, asked_by
from .carriers import Carrier, SameAssociation, Shelves, Status, elsewhere
from .matching import Attributes, Value
from .said import Fetched, Found, Piece, Sought

FIND: Final = "1.2.840.10008.5.1.4.1.2.2.1"
MOVE: Final = "1.2.840.10008.5.1.4.1.2.2.2"
GET: Final = "1.2.840.10008.5.1.4.1.2.2.3"

_NOT_THIS_CLASS: Final = 0xA900
_NOT_ALLOWED: Final = 0x0124
_NO_DESTINATION: Final = 0xA801
_NONE_SENT: Final = 0xA702
_SOME_FAILED: Final = 0xB000
_MAX_COUNT: Final = 0xFFFF
_MAX_NAMED: Final = 1000

_LEVEL, _RETRIEVE_AE, _AVAILABLE = 0x00080052, 0x00080054, 0x00080056
_STUDY, _SERIES, _SOP = 0x0020000D, 0x0020000E, 0x00080018
_FAILED_LIST: Final = 0x00080058
_LEVELS: Final = ("STUDY", "SERIES", "IMAGE")
_REFUSED: Final = {
    "query-not-allowed": _NOT_ALLOWED,
    "destination-unknown": _NO_DESTINATION,
    "retrieval-too-large": TOO_MANY,
}


def sought(query: Attributes, link: Link, destination: str = "") -> Sought:
    """The level and the unique keys of an identifier; Refusal if they do not fit each other."""
    level = matching.text(query, _LEVEL)
    if level not in _LEVELS:
        raise Refusal(_NOT_THIS_CLASS, "the level is STUDY, SERIES or IMAGE")
    uids = {tag: _uids(query, tag) for tag in (_STUDY, _SERIES, _SOP)}
    above = {"STUDY": (), "SERIES": (_STUDY,), "IMAGE": (_STUDY, _SERIES)}[level]
    for tag in above:
        if len(uids[tag]) != 1:
            raise Refusal(_NOT_THIS_CLASS, f"one {matching.name(tag)} is needed at this level")
    return Sought(
        title=link.peer.title,
        address=link.peer.address,
        level=level,
        studies=uids[_STUDY],
        series=uids[_SERIES],
        images=uids[_SOP],
        destination=destination,
    )


def _uids(query: Attributes, tag: int) -> list[str]:
    return [uid for uid in matching.text(query, tag).split("\\") if is_uid(uid)]


def ask(core: Core, target: str, kind: type[Any], said: Sought) -> Any:
    """The core's answer; its refusals as DICOM has them."""
    try:
        return core.ask(target, kind, said)
    except CoreRefused as refused:
        raise Refusal(_REFUSED.get(refused.code, BROKEN), str(refused)) from refused


# -- C-FIND


def of_study(study: Study) -> dict[int, Value]:
    """A study's attributes."""
    sent = study.sent
    return {
        0x00080020: study.date,
        0x00080030: "",
        0x00080050: sent.accession,
        0x00080061: "\\".join(study.modalities),
        0x00081030: study.description,
        0x00100010: sent.name,
        0x00100020: sent.patient_id,
        0x00100021: sent.issuer,
        0x00100030: sent.birth_date,
        0x00100040: sent.sex,
        _STUDY: study.uid,
        0x00200010: "",
        0x00201208: str(study.stored),
    }


def of_series(first: Instance, count: int) -> dict[int, Value]:
    """A series' attributes, by one of its images."""
    number = "" if first.series_number is None else str(first.series_number)
    return {
        0x00080060: first.modality,
        0x0008103E: first.series_description,
        _SERIES: first.series_uid,
        0x00200011: number,
        0x00201209: str(count),
    }


def of_image(image: Instance) -> dict[int, Value]:
    """An image's attributes."""
    return {
        0x00080016: image.sop_class,
        _SOP: image.sop_uid,
        0x00200013: "" if image.instance_number is None else str(image.instance_number),
        0x00280008: str(image.frames),
        0x00280010: str(image.rows),
        0x00280011: str(image.columns),
    }


def candidates(found: Found, level: str, title: str) -> list[Attributes]:
    """All that may answer, each with the attributes of the levels above it."""
    base: dict[int, Value] = {_LEVEL: level, _RETRIEVE_AE: title, _AVAILABLE: "ONLINE"}
    if level == "STUDY":
        return [base | of_study(study) for study in found.studies]
    made: list[Attributes] = []
    for study in found.studies:
        series: dict[str, list[Instance]] = {}
        for image in found.images:
            if image.study == study.id:
                series.setdefault(image.series_uid, []).append(image)
        for images in series.values():
            above = base | of_study(study) | of_series(images[0], len(images))
            if level == "SERIES":
                made.append(above)
            else:
                made += [above | of_image(image) for image in images]
    return made


class Query:
    """C-FIND."""

    sop_classes: Sequence[str] = (FIND,)

    def __init__(self, core: Core, title: str) -> None:
        self._core, self._title = core, title

    def answer(self, request: Request, link: Link) -> Iterator[Response]:
        """Studies, series or images."""
        query = asked_by(request, Field.C_FIND)
        wanted = sought(query, link)
        found: Found = ask(self._core, "/dicom/find", Found, wanted)
        made = candidates(found, wanted.level, self._title)
        # These two are in every answer, and match whatever is asked.
        asked = {**query, _RETRIEVE_AE: "", _AVAILABLE: ""}
        for response in answers(request, link, asked, made, max(MAX_ANSWERS, len(found.images))):
            if response.status == SUCCESS and found.more:
                raise Refusal(TOO_MANY, "only the newest studies were looked at: ask for less")
            yield response


# -- C-MOVE and C-GET


class Counts(NamedTuple):
    """How far a retrieval is."""

    remaining: int
    completed: int = 0
    failed: int = 0
    warning: int = 0

    def after(self, status: Status) -> "Counts":
        """One more sub-operation is done."""
        return Counts(
            self.remaining - 1,
            self.completed + (status is Status.DONE),
            self.failed + (status is Status.FAILED),
            self.warning + (status is Status.WARNED),
        )

    def elements(self, *, ended: bool) -> dict[int, int]:
        """For the command set; what remains is not said of one that has come to its end."""
        said = {
            Tag.COMPLETED: self.completed,
            Tag.FAILED: self.failed,
            Tag.WARNING: self.warning,
        }
        if not ended:
            said[Tag.REMAINING] = self.remaining
        return {tag: min(number, _MAX_COUNT) for tag, number in said.items()}


class Retrieval:
    """C-MOVE, on an association of our own, and C-GET, on the caller's."""

    sop_classes: Sequence[str] = (MOVE, GET)

    def __init__(self, core: Core, shelves: Shelves, title: str) -> None:
        self._core, self._shelves, self._title = core, shelves, title

    def answer(self, request: Request, link: Link) -> Iterator[Response]:
        """Counts after each image, and how it ended."""
        moves = request.context.abstract_syntax == MOVE
        query = asked_by(request, Field.C_MOVE if moves else Field.C_GET)
        destination = str(request.command.get(Tag.MOVE_DESTINATION, "")) if moves else ""
        if moves and not destination:
            raise Refusal(_NO_DESTINATION, "no move destination is named")
        wanted = sought(query, link, destination)
        key = {"STUDY": wanted.studies, "SERIES": wanted.series, "IMAGE": wanted.images}
        if not key[wanted.level]:
            raise Refusal(_NOT_THIS_CLASS, "the unique key of the level is missing")
        fetched: Fetched = ask(self._core, "/dicom/fetch", Fetched, wanted)
        yield from self._send(request, link, fetched, destination)

    def _send(
        self, request: Request, link: Link, fetched: Fetched, destination: str
    ) -> Iterator[Response]:
        if not destination:
            yield from _carry(request, link, fetched.pieces, SameAssociation(link, self._shelves))
            return
        origin = (link.peer.title, request.message_id)
        place = (destination, fetched.address, fetched.port)
        with elsewhere(self._title, place, origin, fetched.pieces, self._shelves) as carrier:
            yield from _carry(request, link, fetched.pieces, carrier)


def _carry(
    request: Request, link: Link, pieces: Sequence[Piece], carrier: Carrier
) -> Iterator[Response]:
    counts, failed = Counts(len(pieces)), list[str]()
    encode: Callable[[], bytes] = lambda: _failed_list(failed, request)  # noqa: E731
    for piece in pieces:
        if link.cancelled(request.message_id):
            yield Response(CANCEL, counts.elements(ended=False), encode())
            return
        status = carrier.carry(piece)
        counts = counts.after(status)
        if status is not Status.DONE:
            failed.append(piece.sop_uid)
        if counts.remaining:
            yield Response(PENDING_ANSWER, counts.elements(ended=False))
    ended = counts.elements(ended=True)
    if not counts.failed and not counts.warning:
        yield Response(SUCCESS, ended)
    else:
        sent = counts.completed + counts.warning
        yield Response(_SOME_FAILED if sent else _NONE_SENT, ended, encode())


def _failed_list(failed: Sequence[str], request: Request) -> bytes:
    """Failed SOP Instance UID List; no data set if there is none."""
    if not failed:
        return b""
    said = {_FAILED_LIST: "\\".join(failed[:_MAX_NAMED])}
    return matching.encoded(matching.dataset(said), request.context.transfer_syntax)
