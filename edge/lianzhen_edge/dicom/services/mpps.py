"""Modality Performed Procedure Step (PS3.4, F.7): N-CREATE begins, N-SET goes on and ends.

Durable at the core before Success. What has ended never changes again.
"""

from collections.abc import Iterator, Sequence
from typing import Final, Literal, TypeAlias
from uuid import uuid4

from lianzhen_edge.dicom.core import Core, CoreRefused
from lianzhen_edge.dicom.dimse import (
    PROCESSING_FAILURE,
    SUCCESS,
    UNRECOGNISED_OPERATION,
    Field,
    Link,
    Refusal,
    Request,
    Response,
    Tag,
)
from lianzhen_protocol.imaging import is_uid
from lianzhen_protocol.orders import MAX_IMAGES, RUNNING, StepSeries

from . import matching
from .matching import Attributes, Value
from .said import Begin, Change, Taken

SOP_CLASS: Final = "1.2.840.10008.3.1.2.3.3"

_State: TypeAlias = Literal["in-progress", "completed", "discontinued"]
_STATES: Final[dict[str, _State]] = {
    "IN PROGRESS": "in-progress",
    "COMPLETED": "completed",
    "DISCONTINUED": "discontinued",
}
_INVALID_VALUE: Final = 0x0106
_MISSING: Final = 0x0120
_LIMIT: Final = 0x0213
_REFUSED: Final = {
    "step-known": (0x0111, {}),
    "step-unknown": (0x0112, {}),
    "step-foreign": (0x0124, {}),
    # May no longer be updated: PS3.4, F.7.2.2.2.
    "step-ended": (PROCESSING_FAILURE, {Tag.ERROR_ID: 0xA710}),
}

_STATUS, _SCHEDULED, _SERIES = 0x00400252, 0x00400270, 0x00400340
_IMAGES, _OTHERS = 0x00081140, 0x00400220
_UID_OF, _SERIES_UID, _SERIES_DESCRIPTION = 0x00081155, 0x0020000E, 0x0008103E


def begins(found: Attributes, uid: str, title: str, address: str) -> Begin:
    """What an N-CREATE says; Refusal for one that does not begin."""
    if _state(found) != RUNNING:
        raise Refusal(_INVALID_VALUE, "a step begins IN PROGRESS")
    scheduled = _items(found.get(_SCHEDULED, ()))
    first: Attributes = scheduled[0] if scheduled else {}
    study = matching.text(first, 0x0020000D)
    return Begin(
        title=title,
        address=address,
        sop_uid=uid,
        station=_clip(found, 0x00400241),
        modality=_clip(found, 0x00080060),
        study_uid=study if is_uid(study) else "",
        accession=_clip(first, 0x00080050),
        number=_clip(found, 0x00100020),
        description=_clip(found, 0x00400254) or _clip(first, 0x00400007),
        begun=_clip(found, 0x00400244) + _clip(found, 0x00400245),
    )


def goes_on(found: Attributes, uid: str, title: str, address: str) -> Change:
    """What an N-SET says."""
    series = tuple(_series(item) for item in _items(found.get(_SERIES, ())))
    if sum(len(one.images) for one in series) > MAX_IMAGES:
        raise Refusal(_LIMIT, f"more than {MAX_IMAGES} images of one step")
    return Change(
        title=title,
        address=address,
        sop_uid=uid,
        state=_state(found) if _STATUS in found else "in-progress",
        ended=_clip(found, 0x00400250) + _clip(found, 0x00400251),
        description=_clip(found, 0x00400254),
        series=series,
    )


def _state(found: Attributes) -> _State:
    said = matching.text(found, _STATUS)
    if not said:
        raise Refusal(_MISSING, "Performed Procedure Step Status is missing")
    if said not in _STATES:
        raise Refusal(_INVALID_VALUE, "no status of a performed procedure step")
    return _STATES[said]


def _series(item: Attributes) -> StepSeries:
    uid = matching.text(item, _SERIES_UID)
    if not is_uid(uid):
        raise Refusal(_INVALID_VALUE, "a performed series without its UID")
    references = [one for tag in (_IMAGES, _OTHERS) for one in _items(item.get(tag, ()))]
    images = [matching.text(one, _UID_OF) for one in references]
    return StepSeries(
        uid=uid,
        description=_clip(item, _SERIES_DESCRIPTION),
        images=tuple(image for image in images if is_uid(image)),
    )


def _items(value: Value) -> Sequence[Attributes]:
    return () if isinstance(value, str) else value


def _clip(found: Attributes, tag: int) -> str:
    return matching.text(found, tag)[:64]


class PerformedSteps:
    """The service."""

    sop_classes: Sequence[str] = (SOP_CLASS,)

    def __init__(self, core: Core) -> None:
        self._core = core

    def answer(self, request: Request, link: Link) -> Iterator[Response]:
        """N-CREATE or N-SET."""
        if request.field not in (Field.N_CREATE, Field.N_SET):
            raise Refusal(UNRECOGNISED_OPERATION, "a step is created and set, no more")
        try:
            found = matching.read(request.data, request.context.transfer_syntax)
        except matching.QueryBroken as error:
            raise Refusal(PROCESSING_FAILURE, str(error)) from error
        peer = link.peer.title, link.peer.address
        if request.field == Field.N_CREATE:
            uid = self._uid(request.command.get(Tag.AFFECTED_SOP_INSTANCE) or _new_uid())
            self._say("/dicom/steps", begins(found, uid, *peer))
        else:
            uid = self._uid(request.command.get(Tag.REQUESTED_SOP_INSTANCE, ""))
            self._say("/dicom/steps/changed", goes_on(found, uid, *peer))
        yield Response(SUCCESS, {Tag.AFFECTED_SOP_INSTANCE: uid})

    @staticmethod
    def _uid(uid: str) -> str:
        if not is_uid(uid):
            raise Refusal(0x0117, "the SOP Instance UID is no UID")
        return uid

    def _say(self, target: str, said: Begin | Change) -> None:
        try:
            self._core.ask(target, Taken, said)
        except CoreRefused as refused:
            status, more = _REFUSED.get(refused.code, (PROCESSING_FAILURE, {}))
            raise Refusal(status, str(refused), more) from refused


def _new_uid() -> str:
    return f"2.25.{uuid4().int}"
