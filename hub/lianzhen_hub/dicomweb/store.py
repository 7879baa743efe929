"""STOW-RS at the hub: into the store that boxes' images are in, durable before it is said.

An expert stores into studies of cases that they are on, an admin also new ones. What is stored here
has a sheet of its own (node ``hub``) beside the box's, so that no count of a box's images is wrong.
The policy for a SOP Instance UID that is known: the same data set is kept once and told as stored;
another one is refused (0111), and nothing is ever replaced.
"""

import asyncio
import hashlib
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
from aiohttp import web

from lianzhen_hub.imaging.errors import ImagingError
from lianzhen_hub.imaging.store import Chunk
from lianzhen_hub.imaging.stores import Name
from lianzhen_hub.page import HubPage
from lianzhen_protocol import imaging
from lianzhen_protocol.accounts import Actor, Role
from lianzhen_protocol.errors import ProtocolError, SealBroken
from lianzhen_protocol.imaging import ImageReceived, ImageStored, Instance, Sent, Study, is_uid
from lianzhen_protocol.sheets import Sheets
from lianzhen_runtime.dicomweb.dataset import read
from lianzhen_runtime.dicomweb.described import described
from lianzhen_runtime.dicomweb.media import DICOM, DICOM_JSON, JSON, choose
from lianzhen_runtime.dicomweb.multipart import Part
from lianzhen_runtime.dicomweb.retrieve import PREFIX, origin
from lianzhen_runtime.dicomweb.storing import (
    CANNOT_UNDERSTAND,
    DUPLICATE,
    NOT_AUTHORISED,
    NOT_THIS_STUDY,
    PROCESSING_FAILED,
    NothingToStore,
    Outcome,
    parts,
    report,
    status_of,
)
from lianzhen_runtime.web.routes import Visit

from .archive import HUB, studies_named

if TYPE_CHECKING:
    from lianzhen_hub.hub import Hub

_CHUNK: Final = 4 << 20
_CLIPPED: Final = 400


class _Refused(Exception):
    def __init__(self, reason: int) -> None:
        self.reason = reason


class _Known(NamedTuple):
    patient: str
    same_uid: list[Instance]


class Storing:
    """The handler."""

    def __init__(self, hub: "Hub") -> None:
        self._hub = hub
        self._turn = asyncio.Lock()
        """Two of the same UID come one after the other."""

    async def store(self, visit: Visit) -> web.StreamResponse:
        """Instances, each with what became of it."""
        type_ = choose(visit.request.headers.get("Accept", ""), (DICOM_JSON, JSON))
        wanted = visit.request.match_info.get("study", "")
        outcomes = [await self._outcome(visit, part, wanted) async for part in parts(visit.request)]
        if not outcomes:
            raise NothingToStore("the message has no instance in it")
        study = f"{origin(visit)}{PREFIX}/studies/{wanted}" if wanted else ""
        body = msgspec.json.encode(report(outcomes, study))
        return web.Response(status=status_of(outcomes), body=body, content_type=type_)

    async def _outcome(self, visit: Visit, part: Part, wanted: str) -> Outcome:
        sop_class = sop_uid = ""
        try:
            if not part.headers.get("content-type", DICOM).lower().startswith(DICOM):
                raise _Refused(CANNOT_UNDERSTAND)
            file = _with_preamble(part.content)
            body = await asyncio.to_thread(manifest, file, self._hub.now_ms())
            sop_class, sop_uid = body.sop_class, body.sop_uid
            if wanted not in ("", body.study_uid):
                raise _Refused(NOT_THIS_STUDY)
            async with self._turn:
                await self._keep(visit.actor, body, file)
        except _Refused as refused:
            return Outcome(sop_class, sop_uid, refused.reason)
        except (ProtocolError, msgspec.ValidationError):
            return Outcome(sop_class, sop_uid, CANNOT_UNDERSTAND)
        except (ImagingError, OSError):
            return Outcome(sop_class, sop_uid, PROCESSING_FAILED)
        address = f"{origin(visit)}{PREFIX}/studies/{body.study_uid}/series/{body.series_uid}"
        return Outcome(sop_class, sop_uid, address=f"{address}/instances/{sop_uid}")

    async def _keep(self, actor: Actor, body: ImageStored, file: bytes) -> None:
        """Durable when this returns; _Refused if it is not to be."""
        known = await self._hub.consult(lambda sheets: _known(sheets, actor, body))
        for image in known.same_uid:
            if not await self._is_same(image, file):
                raise _Refused(DUPLICATE)
        if any(image.state == imaging.SAFE for image in known.same_uid):
            return
        name = Name(HUB, body.instance, "original")
        begun = await self._hub.objects.offset(name, body.sha256, len(file))
        running = hashlib.sha256(file[:begun])
        for begin in range(begun, len(file), _CHUNK):
            content = file[begin : begin + _CHUNK]
            running.update(content)
            chunk = Chunk(begin, content, running.hexdigest())
            await self._hub.objects.append(name, body.sha256, chunk, len(file))
        received = ImageReceived(
            instance=body.instance, sha256=body.sha256, received_ms=self._hub.now_ms()
        )

        def work(page: HubPage) -> None:
            imaging.stored(page, HUB, body, known.patient)
            imaging.received(page, received)
            page.audit(actor.id, "create", f"{Instance.SHEET}/{body.instance}")

        await self._hub.transact(work)

    async def _is_same(self, image: Instance, file: bytes) -> bool:
        """Whether it is the same data set in the same transfer syntax, in whichever file."""
        if image.sha256 == hashlib.sha256(file).hexdigest():
            return True
        try:
            name = Name(image.node, image.id, "original")
            kept = await self._hub.objects.content(name)
            return await asyncio.to_thread(_body_of, kept) == await asyncio.to_thread(
                _body_of, file
            )
        except (FileNotFoundError, SealBroken, ProtocolError):
            return False  # it is announced and has not come: what it is nobody knows yet


def _known(sheets: Sheets, actor: Actor, body: ImageStored) -> _Known:
    """Whose study it is, and what is there under this UID; _Refused if it is not for this actor."""
    mine = studies_named(sheets, actor, body.study_uid)
    is_new = not sheets.find_token(Study, "uid", body.study_uid)
    if not mine and not (is_new and Role.ADMIN in actor.roles):
        raise _Refused(NOT_AUTHORISED)
    keys = {study.id for study in mine}
    named = sheets.find_token(Instance, "sop", body.sop_uid)
    if any(image.study not in keys for image in named):
        raise _Refused(DUPLICATE)  # a UID is of one study; whose the other is, is not said
    patient = next((study.patient_id for study in mine if study.patient_id), "")
    return _Known(patient, named)


def _with_preamble(file: bytes) -> bytes:
    """Some clients begin with group 2 at once; a file of ours has what belongs before it."""
    return bytes(128) + b"DICM" + file if file[:2] == b"\2\0" else file


def _body_of(file: bytes) -> tuple[str, bytes]:
    found = read(file)
    return found.transfer_syntax, found.data[found.begin :]


def manifest(file: bytes, now_ms: int) -> ImageStored:
    """What a box would say of a file; ProtocolError or ValidationError if it is none to keep."""
    found = described(read(file))
    attributes, sha256 = found.attributes(), hashlib.sha256(file).hexdigest()

    def first(tag: str) -> Any:
        return next(iter(attributes.get(tag, {}).get("Value", [])), None)

    def text(tag: str) -> str:
        return str(first(tag) or "")[:_CLIPPED]

    def number(tag: str) -> int | None:
        value = first(tag)
        return int(value) if isinstance(value, int | float) else None

    uids = {name: text(tag) for name, tag in _UIDS.items()}
    if not all(map(is_uid, (*uids.values(), found.transfer_syntax))):
        raise ProtocolError("an image without its UIDs")
    name = first("00100010") or {}
    values = {
        **uids,
        "instance": imaging.instance_key(HUB, sha256),
        "study": imaging.study_key(HUB, uids["study_uid"]),
        "sha256": sha256,
        "size": len(file),
        "transfer_syntax": found.transfer_syntax,
        "modality": text("00080060"),
        "series_number": number("00200011"),
        "instance_number": number("00200013"),
        "rows": number("00280010") or 0,
        "columns": number("00280011") or 0,
        "frames": max(1, number("00280008") or 1),
        "study_date": text("00080020"),
        "study_description": text("00081030"),
        "series_description": text("0008103E"),
        "received_ms": now_ms,
        "sent": Sent(
            patient_id=text("00100020"),
            issuer=text("00100021"),
            name="=".join(
                name.get(group, "") for group in ("Alphabetic", "Ideographic", "Phonetic")
            ).rstrip("=")[:_CLIPPED],
            birth_date=text("00100030"),
            sex=text("00100040"),
            accession=text("00080050"),
        ),
    }
    return msgspec.convert(values, ImageStored, from_attributes=True)


_UIDS: Final = {
    "sop_class": "00080016",
    "sop_uid": "00080018",
    "study_uid": "0020000D",
    "series_uid": "0020000E",
}
