"""The unassigned tray and who wears which device: two identifiers are confirmed for every join."""

from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from lianzhen_edge.journal.book import Book
from lianzhen_edge.patients import desk, tray
from lianzhen_protocol import bindings, joins, people
from lianzhen_protocol.accounts import CLINICAL
from lianzhen_protocol.bindings import Binding
from lianzhen_protocol.errors import PatientError
from lianzhen_protocol.joins import Item
from lianzhen_protocol.people import Patient
from lianzhen_protocol.sheets import Sheets
from lianzhen_protocol.wearables import Wearable
from lianzhen_runtime.web.errors import NoSuchThing
from lianzhen_runtime.web.routes import Routes, Visit

from .people import Why, by, confirmed, device_names, known_patient, said, spoken
from .reads import Reads

if TYPE_CHECKING:
    from lianzhen_edge.box import Box


class Joining(msgspec.Struct, frozen=True, kw_only=True):
    """Whose an item is: two identifiers as typed or scanned, and why."""

    number: str = ""
    second: str = ""
    why: str = ""


class Wearing(msgspec.Struct, frozen=True, kw_only=True):
    """Who wears a device: patient number and second identifier, asked of the person.

    ``since`` is local time of a moment in the last day; without it, now.
    """

    device: str = ""
    number: str = ""
    second: str = ""
    since: datetime | None = None


class Release(msgspec.Struct, frozen=True, kw_only=True):
    """The device is off; ``void``: it never was that patient's."""

    void: bool = False
    why: str = ""


def routes(box: "Box") -> Routes:
    """Everything of this area."""
    found, pages = Routes(), _Pages(box)
    found.entry("/tray", "people.tray", roles=CLINICAL, order=20)
    found.entry("/bindings", "people.bindings", roles=CLINICAL, order=15)
    found.get("/tray", roles=CLINICAL)(pages.waiting)
    found.get("/tray/fragment", roles=CLINICAL)(pages.waiting_fragment)
    found.get("/tray/{id}", roles=CLINICAL)(pages.item)
    found.post("/tray/{id}/join", roles=CLINICAL)(spoken(pages.join))
    found.post("/tray/{id}/unjoin", roles=CLINICAL)(spoken(pages.unjoin))
    found.get("/bindings", roles=CLINICAL)(pages.worn)
    found.get("/bindings/fragment", roles=CLINICAL)(pages.worn_fragment)
    found.get("/bindings/new", roles=CLINICAL)(pages.choose)
    found.post("/bindings", roles=CLINICAL)(pages.bind)
    found.get("/bindings/{id}", roles=CLINICAL)(pages.binding)
    found.post("/bindings/{id}/release", roles=CLINICAL)(spoken(pages.release))
    return found


class _Pages:
    def __init__(self, box: "Box") -> None:
        self._box = box
        self._reads = Reads(box)

    @property
    def _sheets(self) -> Sheets:
        return self._box.journal.sheets

    # -- the tray

    async def waiting(self, visit: Visit) -> web.StreamResponse:
        return await self._tray(visit, "people/tray.html")

    async def waiting_fragment(self, visit: Visit) -> web.StreamResponse:
        return await self._tray(visit, "people/tray_fragment.html")

    async def _tray(self, visit: Visit, page: str) -> web.Response:
        items = joins.tray(self._sheets)
        joined = self._sheets.find(Item, state=joins.JOINED, newest=True, limit=20)
        await self._reads.note(visit, "tray/waiting")
        patients = {item.join.patient for item in joined if item.join}
        return visit.page(
            page,
            items=items,
            joined=joined,
            patients={each: known_patient(self._sheets, each) for each in patients},
            names=device_names(self._sheets),
        )

    async def item(self, visit: Visit) -> web.StreamResponse:
        found = self._sheets.get(Item, visit.match("id"))
        if found is None:
            raise NoSuchThing("no such item waits here, or ever did")
        await self._reads.note(visit, f"item/{found.id}")
        owner = self._sheets.get(Patient, found.join.patient) if found.join else None
        number = visit.query("number")
        chosen, wrong = self._chosen(visit, number) if number else (None, "")
        doubt = joins.doubt(found.claimed, chosen) if chosen else None
        return visit.page(
            "people/item.html",
            item=found,
            patient=owner,
            chosen=chosen,
            doubt=doubt,
            wrong=wrong,
            number=number,
            names=device_names(self._sheets),
        )

    def _chosen(self, visit: Visit, number: str) -> tuple[Patient | None, str]:
        """The patient with a number, or why there is none."""
        try:
            found = people.by_number(self._sheets, people.patient_number(number))
        except PatientError as error:
            return None, said(visit, error)
        return (found[0], "") if found else (None, visit.t("people.error_number-unknown"))

    async def join(self, visit: Visit) -> web.StreamResponse:
        identity, who, wanted = visit.match("id"), by(visit.actor), await visit.form(Joining)

        def work(book: Book) -> str:
            patient = confirmed(book, wanted.number, wanted.second)
            tray.join(book, who, identity, patient.id, desk.reason(wanted.why))
            return patient.id

        patient = await visit.once(self._box.journal.transact, work, str)
        return visit.see_other(f"/tray/{identity}", id=identity, patient=patient)

    async def unjoin(self, visit: Visit) -> web.StreamResponse:
        identity, who, wanted = visit.match("id"), by(visit.actor), await visit.form(Why)
        await visit.once(
            self._box.journal.transact,
            lambda book: tray.unjoin(book, who, identity, desk.reason(wanted.why)),
            type(None),
        )
        return visit.see_other(f"/tray/{identity}", id=identity)

    # -- who wears what

    async def worn(self, visit: Visit) -> web.StreamResponse:
        return await self._worn(visit, "people/bindings.html")

    async def worn_fragment(self, visit: Visit) -> web.StreamResponse:
        return await self._worn(visit, "people/bindings_fragment.html")

    async def _worn(self, visit: Visit, page: str) -> web.Response:
        found = self._sheets.find(Binding, state=bindings.OPEN, newest=True)
        await self._reads.note(visit, "binding-list/open")
        return visit.page(
            page,
            bindings=found,
            patients={each.patient: known_patient(self._sheets, each.patient) for each in found},
            names=device_names(self._sheets),
        )

    async def choose(self, visit: Visit) -> web.StreamResponse:
        wanted = Wearing(device=visit.query("device"), number=visit.query("number"))
        return await self._choose(visit, wanted)

    async def _choose(self, visit: Visit, wanted: Wearing, wrong: str = "") -> web.Response:
        """The form: device and number first, and when they are right, who that is."""
        chosen: Patient | None = None
        if wanted.number:
            chosen, unknown = self._chosen(visit, wanted.number)
            wrong = wrong or unknown
        if chosen is not None:
            await self._reads.note(visit, f"patient/{chosen.id}")
        worn = {each.device for each in self._sheets.find(Binding, state=bindings.OPEN)}
        live = self._sheets.find(Wearable, state="live")
        context: dict[str, Any] = {
            "free": [device for device in live if device.id not in worn],
            "chosen": chosen,
            "wanted": wanted,
            "wrong": wrong,
            "names": device_names(self._sheets),
        }
        return visit.page("people/bind.html", status=422 if wrong else 200, **context)

    async def bind(self, visit: Visit) -> web.StreamResponse:
        who, wanted = by(visit.actor), await visit.form(Wearing)

        def work(book: Book) -> tuple[str, str]:
            patient = confirmed(book, wanted.number, wanted.second)
            start = None if wanted.since is None else china_ms(wanted.since)
            return tray.bind(book, who, wanted.device, patient.id, start), patient.id

        try:
            identity, patient = await visit.once(self._box.journal.transact, work, tuple[str, str])
        except PatientError as error:
            if visit.wants_json:
                raise
            return await self._choose(visit, wanted, said(visit, error))
        return visit.see_other(f"/patients/{patient}", id=identity, patient=patient)

    async def binding(self, visit: Visit) -> web.StreamResponse:
        found = self._known_binding(visit)
        await self._reads.note(visit, f"binding/{found.id}")
        patient = known_patient(self._sheets, found.patient)
        names = device_names(self._sheets)
        return visit.page("people/binding.html", binding=found, patient=patient, names=names)

    def _known_binding(self, visit: Visit) -> Binding:
        found = self._sheets.get(Binding, visit.match("id"))
        if found is None:
            raise NoSuchThing("there is no such binding")
        return found

    async def release(self, visit: Visit) -> web.StreamResponse:
        found, who, wanted = self._known_binding(visit), by(visit.actor), await visit.form(Release)
        why = desk.reason(wanted.why) if wanted.void else wanted.why
        end = found.from_ms if wanted.void else None
        to_ms = await visit.once(
            self._box.journal.transact,
            lambda book: tray.release(book, who, found.id, end, why).end_ms,
            int,
        )
        return visit.see_other(f"/bindings/{found.id}", id=found.id, to_ms=to_ms)


def china_ms(moment: datetime) -> int:
    """A moment as a form has it (no zone: the clinic's) in ms."""
    zoned = moment if moment.tzinfo else moment.replace(tzinfo=people.CHINA)
    return int(zoned.timestamp() * 1000)
