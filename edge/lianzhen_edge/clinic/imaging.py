"""Images at the clinic: who may send them, which have come, and how each one stands.

Fragments for other pages: ``/patients/{id}/imaging``. Live events: ``modality``, ``imaging``.
"""

import contextlib
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import msgspec
from aiohttp import web

from lianzhen_edge.appliance.browser_trust import own_addresses
from lianzhen_edge.dicom.commitments import WAITING, Commitment
from lianzhen_edge.dicom.imaging import Allowed
from lianzhen_edge.dicom.shelf import Held, Shelf
from lianzhen_edge.journal.book import Book
from lianzhen_protocol.accounts import CLINICAL, Role
from lianzhen_protocol.errors import SealBroken
from lianzhen_protocol.imaging import (
    ADMITTED,
    SENT,
    STORED,
    STREAM,
    Instance,
    Study,
    images_of,
)
from lianzhen_protocol.key_images import keys_of
from lianzhen_protocol.orders import RUNNING, Step
from lianzhen_protocol.people import Patient
from lianzhen_protocol.sheets import Sheets
from lianzhen_runtime.errors import LianzhenError
from lianzhen_runtime.measurements import Report, reports_of
from lianzhen_runtime.preview import WINDOWS, NoPreview, picked
from lianzhen_runtime.problems import json_answer
from lianzhen_runtime.web.routes import Routes, Visit
from lianzhen_runtime.web.viewing import Keyed, beginning, dicomweb_of, viewed

if TYPE_CHECKING:
    from lianzhen_edge.box import Box

KEEPERS: Final = CLINICAL | {Role.ADMIN}
"""Who looks after devices."""

_NEWEST: Final = 100


class NoSuchImage(LianzhenError):
    """There is no image or preview under this address."""

    code = "image-unknown"
    http_status = 404


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """A study as pages and programs see it."""

    study: Study
    images: list[Instance]
    """In reading order; empty where only the study was asked for."""
    state: str
    """The least that is true of all its images: stored, sent or safe; or seen, by an expert."""
    seen_by: str = ""


class Modality(msgspec.Struct, frozen=True, kw_only=True):
    """A device that is let in without having called."""

    title: str
    address: str


def shown(sheets: Sheets, study: Study) -> Shown:
    """A study with its images."""
    images = images_of(sheets, study.id)
    states = {image.state for image in images}
    worst = next((state for state in ("stored", "sent", "safe") if state in states), "stored")
    if worst == "safe" and study.seen_by and study.seen_images >= len(images):
        return Shown(study=study, images=images, state="seen", seen_by=study.seen_by)
    return Shown(study=study, images=images, state=worst)


def routes(box: "Box") -> Routes:
    """Pages of modalities, of images, and the patient's."""
    found = Routes()
    pages = _Pages(box)
    found.entry("/imaging", "imaging.title", roles=CLINICAL, order=30)
    found.entry("/modalities", "imaging.modalities", roles=KEEPERS, order=60)
    found.get("/modalities", roles=KEEPERS)(pages.modalities)
    found.get("/modalities/fragment", roles=KEEPERS)(pages.modalities_fragment)
    found.post("/modalities", roles=KEEPERS)(pages.add)
    found.post("/modalities/{id}/test", roles=KEEPERS)(pages.test)
    found.post("/modalities/{id}/admit", roles=KEEPERS)(pages.admit)
    found.post("/modalities/{id}/remove", roles=KEEPERS)(pages.remove)
    found.post("/modalities/{id}/allow", roles=KEEPERS)(pages.allow)
    found.get("/imaging", roles=CLINICAL)(pages.studies)
    found.get("/imaging/fragment", roles=CLINICAL)(pages.studies_fragment)
    found.get("/studies/{id}", roles=CLINICAL)(pages.study)
    found.get("/studies/{id}/series", roles=CLINICAL)(pages.series)
    found.post("/studies/{id}/{image}/key", roles=CLINICAL)(pages.key)
    found.get("/patients/{id}/imaging", roles=CLINICAL)(pages.patient)
    found.get("/studies/{id}/{image}/preview", roles=CLINICAL)(pages.preview)
    found.get("/studies/{id}/{image}/original", roles=CLINICAL)(pages.original)
    return found


class _Pages:
    def __init__(self, box: "Box") -> None:
        self._box = box

    # -- modalities

    async def modalities(self, visit: Visit) -> web.StreamResponse:
        return visit.page("imaging/modalities.html", **self._modalities())

    async def modalities_fragment(self, visit: Visit) -> web.StreamResponse:
        return visit.page("imaging/modalities_fragment.html", **self._modalities())

    def _modalities(self) -> dict[str, Any]:
        imaging = self._box.imaging
        rows = imaging.scanners()
        return {
            "title": imaging.title,
            "port": imaging.port,
            "tested": imaging.tested,
            "addresses": [
                str(one) for one in own_addresses() if one.version == 4 and not one.is_loopback
            ],
            "admitted": [row for row in rows if row.state == ADMITTED],
            "untold": Counter(
                each.scanner
                for each in self._box.journal.sheets.find(Commitment, state=WAITING, limit=_NEWEST)
            ),
            "others": [row for row in rows if row.state != ADMITTED],
        }

    async def test(self, visit: Visit) -> web.StreamResponse:
        """Call the modality back. Done again it is done anew: it changes nothing."""
        found = await self._box.imaging.test(visit.match("id"))
        return visit.see_other("/modalities", code=found.code, took_ms=found.took_ms)

    async def admit(self, visit: Visit) -> web.StreamResponse:
        actor, act = visit.actor, await visit.act()
        found = await self._box.imaging.admit(visit.match("id"), actor.id, actor.name, act)
        return visit.see_other("/modalities", id=found.id)

    async def remove(self, visit: Visit) -> web.StreamResponse:
        actor, act = visit.actor, await visit.act()
        found = await self._box.imaging.remove(visit.match("id"), actor.id, actor.name, act)
        return visit.see_other("/modalities", id=found.id)

    async def allow(self, visit: Visit) -> web.StreamResponse:
        """All of it at once: what the form does not say is not allowed any more."""
        wanted, actor, act = await visit.form(Allowed), visit.actor, await visit.act()
        found = await self._box.imaging.allow(visit.match("id"), wanted, actor.id, actor.name, act)
        return visit.see_other("/modalities", id=found.id)

    async def add(self, visit: Visit) -> web.StreamResponse:
        wanted, actor, act = await visit.form(Modality), visit.actor, await visit.act()
        found = await self._box.imaging.admit_by_hand(
            wanted.title.strip(), wanted.address.strip(), actor.id, actor.name, act
        )
        return visit.see_other("/modalities", id=found.id)

    # -- studies

    async def studies(self, visit: Visit) -> web.StreamResponse:
        return visit.page("imaging/studies.html", **self._studies())

    async def studies_fragment(self, visit: Visit) -> web.StreamResponse:
        return visit.page("imaging/studies_fragment.html", **self._studies())

    def _studies(self) -> dict[str, Any]:
        sheets = self._box.journal.sheets
        studies = sheets.find(Study, limit=_NEWEST, newest=True)
        unsent = [
            image.stored_ms
            for state in (STORED, SENT)
            for image in sheets.find(Instance, state=state, limit=1)
        ]
        return {
            "studies": studies,
            "waiting": sum(study.stored - study.received for study in studies) if unsent else 0,
            "oldest_ms": min(unsent, default=None),
            "held": sheets.find(Held, limit=_NEWEST, newest=True),
            "steps": sheets.find(Step, state=RUNNING, limit=_NEWEST, newest=True),
        }

    async def study(self, visit: Visit) -> web.StreamResponse:
        sheets = self._box.journal.sheets
        study = self._study(visit)
        found = shown(sheets, study)
        patient = sheets.get(Patient, study.patient_id) if study.patient_id else None
        first = beginning(found.images)
        reports = [await self._report(image) for image in reports_of(found.images)]
        return visit.page(
            "imaging/study.html", found=found, patient=patient, first=first, reports=reports
        )

    def _study(self, visit: Visit) -> Study:
        study = self._box.journal.sheets.get(Study, visit.match("id"))
        if study is None:
            raise NoSuchImage("there is no such study")
        return study

    async def _report(self, image: Instance) -> Report:
        shelf, rows = self._box.journal.sheets.get(Shelf, image.id), None
        with contextlib.suppress(FileNotFoundError, SealBroken, NoPreview):
            rows = await self._box.imaging.measurements(shelf) if shelf else None
        return Report(title=image.series_description, rows=rows)

    async def series(self, visit: Visit) -> web.StreamResponse:
        """For the viewer: when a person opens a study in it, and again while more of it comes."""
        sheets, study = self._box.journal.sheets, self._study(visit)
        patient = study.patient_id
        found = viewed(
            study,
            images_of(sheets, study.id),
            keys_of(sheets, study.id),
            sheets.find(Study, owner=patient, limit=_NEWEST, newest=True) if patient else (),
            marks=True,
            whole=lambda image: sheets.get(Shelf, image.id) is not None,
            dicomweb=dicomweb_of(visit),
        )
        answer = json_answer({"study": found})
        answer.enable_compression()
        return answer

    async def key(self, visit: Visit) -> web.StreamResponse:
        """A frame is a key image, or is none any more."""
        wanted, actor, image = await visit.form(Keyed), visit.actor, self._image(visit)

        def work(book: Book) -> None:
            book.write(STREAM, wanted.body(image, actor, book.now_ms))
            book.audit(actor.id, "change", f"{Instance.SHEET}/{image.id}")

        await self._box.journal.transact(work)
        return visit.see_other(f"/studies/{visit.match('id')}")

    async def patient(self, visit: Visit) -> web.StreamResponse:
        sheets = self._box.journal.sheets
        studies = sheets.find(Study, owner=visit.match("id"), limit=_NEWEST, newest=True)
        found = [shown(sheets, study) for study in studies]
        return visit.page("imaging/patient_fragment.html", found=found)

    # -- content

    async def preview(self, visit: Visit) -> web.StreamResponse:
        image, window = self._image(visit), visit.query("window")
        try:
            content = await self._picture(image, window, visit.query("frame"))
        except (FileNotFoundError, SealBroken, NoPreview) as error:
            raise NoSuchImage("there is no preview of this image") from error
        headers = {"Cache-Control": "private, max-age=3600"}
        return web.Response(body=content, content_type="image/jpeg", headers=headers)

    async def _picture(self, image: Instance, window: str, frame: str) -> bytes:
        """The preview, or a frame of it; or through a window, while the box holds the image."""
        if not window:
            return picked(await self._box.imaging.preview(image.id), frame)
        shelf = self._box.journal.sheets.get(Shelf, image.id)
        if shelf is None or window not in WINDOWS:
            raise NoPreview("there is no such window")
        return await self._box.imaging.view(shelf, window)

    async def original(self, visit: Visit) -> web.StreamResponse:
        """The Part 10 file exactly as the modality sent it."""
        image, actor = self._image(visit), visit.actor.id
        shelf = self._box.journal.sheets.get(Shelf, image.id)
        try:
            if shelf is None:
                raise FileNotFoundError(image.id)
            content = await self._box.imaging.original(shelf)
        except (FileNotFoundError, SealBroken) as error:
            raise NoSuchImage("the box does not hold this image; the hub may") from error
        await self._box.journal.transact(
            lambda book: book.audit(actor, "export", f"{Instance.SHEET}/{image.id}")
        )
        headers = {
            "Cache-Control": "no-store",
            "Content-Disposition": f'attachment; filename="{image.id}.dcm"',
        }
        return web.Response(body=content, content_type="application/dicom", headers=headers)

    def _image(self, visit: Visit) -> Instance:
        found = self._box.journal.sheets.get(Instance, visit.match("image"))
        if found is None or found.study != visit.match("id"):
            raise NoSuchImage("there is no such image in this study")
        return found
