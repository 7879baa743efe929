"""Images at the hub: for the expert on the case, and for an admin; each copy is in the audit log.

``/cases/{id}/imaging`` is the fragment on the expert's case. Live event: ``imaging``.
"""

import contextlib
from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Final

import msgspec
from aiohttp import web

from lianzhen_hub.consultations.access import case_of, may_see
from lianzhen_hub.imaging.meanings import mark, seen
from lianzhen_hub.imaging.stores import Name, Part
from lianzhen_hub.page import HubPage
from lianzhen_protocol.accounts import Actor, Role
from lianzhen_protocol.consultation import Consultation
from lianzhen_protocol.errors import SealBroken
from lianzhen_protocol.imaging import SAFE, Instance, Study, images_of
from lianzhen_protocol.key_images import KeyImage, keys_of
from lianzhen_protocol.sheets import Sheets
from lianzhen_runtime.errors import LianzhenError
from lianzhen_runtime.measurements import MAX_BYTES, Report, reports_of
from lianzhen_runtime.preview import WINDOWS, NoPreview, PreviewWorker, picked
from lianzhen_runtime.problems import json_answer
from lianzhen_runtime.web.routes import Routes, Visit
from lianzhen_runtime.web.viewing import Keyed, Viewed, beginning, dicomweb_of, viewed

if TYPE_CHECKING:
    from lianzhen_hub.hub import Hub

EXPERTS: Final = frozenset({Role.EXPERT})
ADMINS: Final = frozenset({Role.ADMIN})
_MOST_VIEWED: Final = 64 << 20
"""Bytes of an image that is looked at through a window here."""

_NEWEST: Final = 200


class NoSuchImage(LianzhenError):
    """There is no such image, or not for this person: the same answer."""

    code = "image-unknown"
    http_status = 404


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """A study and its images in reading order."""

    study: Study
    images: list[Instance]
    arrived: int
    """How many originals are here, whole."""


def shown(sheets: Sheets, study: Study) -> Shown:
    """A study with its images."""
    images = images_of(sheets, study.id)
    arrived = sum(image.state == SAFE for image in images)
    return Shown(study=study, images=images, arrived=arrived)


def study_for(sheets: Sheets, actor: Actor, key: str) -> Study:
    """The study, for an admin, or for the expert on a case that it was sent along with."""
    study = sheets.get(Study, key)
    if study is not None and (Role.ADMIN in actor.roles or _on_case(sheets, actor, study)):
        return study
    raise NoSuchImage("there is no such study, or you are not on its case")


def _on_case(sheets: Sheets, actor: Actor, study: Study) -> bool:
    if not study.patient_id or Role.EXPERT not in actor.roles:
        return False
    return any(
        may_see(case, actor) and study.id in case.studies
        for case in sheets.find(Consultation, owner=study.patient_id)
    )


def _others(sheets: Sheets, actor: Actor, study: Study) -> list[Study]:
    """The patient's other studies that this reader may see."""
    if not study.patient_id:
        return []
    found = sheets.find(Study, owner=study.patient_id, limit=_NEWEST, newest=True)
    return [one for one in found if Role.ADMIN in actor.roles or _on_case(sheets, actor, one)]


def routes(hub: "Hub", viewer: PreviewWorker) -> Routes:
    """The expert's fragment, the viewer, and the bytes."""
    found, pages = Routes(), _Pages(hub, viewer)

    def changed(sheets: Collection[tuple[str, str]]) -> None:
        if any(kind in (Study.SHEET, Instance.SHEET, KeyImage.SHEET) for kind, _ in sheets):
            hub.live.tell_soon("imaging", EXPERTS | ADMINS)

    hub.on_change(changed)
    found.entry("/studies", "imaging.title", roles=ADMINS, order=60)
    found.get("/studies", roles=ADMINS)(pages.newest)
    found.get("/studies/{id}", roles=EXPERTS | ADMINS)(pages.study)
    found.get("/studies/{id}/series", roles=EXPERTS | ADMINS)(pages.series)
    found.post("/studies/{id}/{image}/key", roles=EXPERTS)(pages.key)
    found.get("/cases/{id}/imaging", roles=EXPERTS)(pages.case)
    found.get("/studies/{id}/{image}/preview", roles=EXPERTS | ADMINS)(pages.preview)
    found.get("/studies/{id}/{image}/original", roles=EXPERTS | ADMINS)(pages.original)
    return found


class _Pages:
    def __init__(self, hub: "Hub", viewer: PreviewWorker) -> None:
        self._hub = hub
        self._viewer = viewer

    async def newest(self, visit: Visit) -> web.StreamResponse:
        """What has come, in numbers: an admin looks after images, not at them."""

        def look(sheets: Sheets) -> list[dict[str, Any]]:
            return [
                {
                    "id": study.id,
                    "node": study.node,
                    "modalities": study.modalities,
                    "stored": study.stored,
                    "received": study.received,
                    "size": study.size,
                    "last_ms": study.last_ms,
                }
                for study in sheets.find(Study, limit=_NEWEST, newest=True)
            ]

        return visit.page("imaging/newest.html", rows=await self._hub.consult(look))

    async def study(self, visit: Visit) -> web.StreamResponse:
        actor, key = visit.actor, visit.match("id")

        def look(page: HubPage) -> Shown:
            study = study_for(page, actor, key)
            if Role.EXPERT in actor.roles:
                seen(page, study, actor.name)
            return shown(page, study)

        found = await self._hub.transact(look)
        reports = [await self._report(image) for image in reports_of(found.images)]
        first = beginning(found.images)
        return visit.page("imaging/study.html", found=found, first=first, reports=reports)

    async def _report(self, image: Instance) -> Report:
        rows = None
        with contextlib.suppress(NoSuchImage, NoPreview):
            if image.size <= MAX_BYTES:
                content = await self._content(image, "original")
                rows = await self._viewer.measurements(content)
        return Report(title=image.series_description, rows=rows)

    async def series(self, visit: Visit) -> web.StreamResponse:
        """For the viewer: when a person opens a study in it, and again while more of it comes."""
        actor, key = visit.actor, visit.match("id")

        def look(page: HubPage) -> Viewed:
            study = study_for(page, actor, key)
            if visit.opened and Role.EXPERT in actor.roles:
                seen(page, study, actor.name)
            return viewed(
                study,
                images_of(page, study.id),
                keys_of(page, study.id),
                _others(page, actor, study),
                marks=Role.EXPERT in actor.roles,
                whole=lambda image: image.state == SAFE,
                dicomweb=dicomweb_of(visit),
            )

        answer = json_answer({"study": await self._hub.transact(look)})
        answer.enable_compression()
        return answer

    async def key(self, visit: Visit) -> web.StreamResponse:
        """A frame is a key image, or is none any more."""
        wanted, actor = await visit.form(Keyed), visit.actor

        def work(page: HubPage) -> None:
            image = self._image(page, visit)
            mark(page, image, wanted.body(image, actor, page.now_ms))

        await self._hub.transact(work)
        return visit.see_other(f"/studies/{visit.match('id')}")

    async def case(self, visit: Visit) -> web.StreamResponse:
        actor, identity = visit.actor, visit.match("id")

        def look(page: HubPage) -> list[Shown]:
            case = case_of(page, actor, identity)
            studies = [page.get(Study, key) for key in case.studies]
            mine = [one for one in studies if one and one.patient_id == case.patient_id]
            for study in mine if visit.opened else ():
                seen(page, study, actor.name)
            return [shown(page, study) for study in mine]

        return visit.page("imaging/case_fragment.html", found=await self._hub.transact(look))

    async def preview(self, visit: Visit) -> web.StreamResponse:
        image = await self._hub.consult(lambda sheets: self._image(sheets, visit))
        content = await self._picture(image, visit.query("window"), visit.query("frame"))
        headers = {"Cache-Control": "private, max-age=600"}
        return web.Response(body=content, content_type="image/jpeg", headers=headers)

    async def _picture(self, image: Instance, window: str, frame: str) -> bytes:
        """The box's preview, or a frame of it; or through a window, made now from the original."""
        if not window:
            try:
                return picked(await self._content(image, "preview"), frame)
            except NoPreview as error:
                raise NoSuchImage("there is no such frame") from error
        if window not in WINDOWS or image.size > _MOST_VIEWED:
            raise NoSuchImage("there is no such window of this image")
        try:
            return await self._viewer.render(await self._content(image, "original"), window)
        except NoPreview as error:
            raise NoSuchImage("there is no preview of this image") from error

    async def original(self, visit: Visit) -> web.StreamResponse:
        """The Part 10 file exactly as the modality sent it."""
        actor = visit.actor.id

        def take(page: HubPage) -> Instance:
            image = self._image(page, visit)
            page.audit(actor, "export", f"{Instance.SHEET}/{image.id}")
            return image

        image = await self._hub.transact(take)
        content = await self._content(image, "original")
        headers = {
            "Cache-Control": "no-store",
            "Content-Disposition": f'attachment; filename="{image.id}.dcm"',
        }
        return web.Response(body=content, content_type="application/dicom", headers=headers)

    @staticmethod
    def _image(sheets: Sheets, visit: Visit) -> Instance:
        study = study_for(sheets, visit.actor, visit.match("id"))
        image = sheets.get(Instance, visit.match("image"))
        if image is None or image.study != study.id:
            raise NoSuchImage("there is no such image in this study")
        return image

    async def _content(self, image: Instance, part: Part) -> bytes:
        try:
            return await self._hub.objects.content(Name(image.node, image.id, part))
        except (FileNotFoundError, SealBroken) as error:
            raise NoSuchImage("it has not come yet; the case shows how far it is") from error
