"""The clinic's pages of vital signs, alarms and wearables."""

from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
import segno
from aiohttp import web

from lianzhen_edge.devices import desk
from lianzhen_edge.devices.sheets import Refusal, WearableState
from lianzhen_edge.journal.book import Book
from lianzhen_protocol import bedside, bindings
from lianzhen_protocol.accounts import CLINICAL, Role
from lianzhen_protocol.alarms import Alarm, AlarmState
from lianzhen_protocol.identity import RecordId
from lianzhen_protocol.people import Patient, known_patient
from lianzhen_protocol.sheets import Sheets
from lianzhen_protocol.vitals import MEANING, Measurement, Parameter, Vitals, coded, measured
from lianzhen_protocol.wearables import Wearable
from lianzhen_runtime.web.routes import Routes, Visit
from lianzhen_runtime.web.signs import HOURS, hours_of, trend_answer

if TYPE_CHECKING:
    from lianzhen_edge.box import Box

KEEPERS: Final = frozenset(CLINICAL | {Role.ADMIN})
_SHOWN_ALARMS: Final = 100
_Text = Annotated[str, msgspec.Meta(max_length=500)]


class Named(msgspec.Struct, frozen=True, kw_only=True):
    """A new device."""

    name: _Text = ""


class Heard(msgspec.Struct, frozen=True, kw_only=True):
    """What may be said with an acknowledgement."""

    note: _Text = ""


class Entered(msgspec.Struct, frozen=True, kw_only=True):
    """What a person measured, in the parameters' own units; None: not now."""

    respiration: float | None = None
    spo2: float | None = None
    oxygen: float | None = None
    systolic: float | None = None
    diastolic: float | None = None
    pulse: float | None = None
    consciousness: str | None = None
    temperature: float | None = None

    def measurements(self) -> tuple[Measurement, ...]:
        """ReadingError for a value that cannot be: the person looks again."""
        found = []
        for parameter in Parameter:
            value = getattr(self, parameter)
            if isinstance(value, str) and value:
                found.append(coded(parameter, value))
            elif isinstance(value, float):
                found.append(measured(parameter, value, MEANING[parameter].unit))
        return tuple(found)


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """A wearable as the device page shows it."""

    wearable: Wearable
    state: WearableState
    connected: bool
    patient: Patient | None
    refusals: list[Refusal]


def routes(box: "Box") -> Routes:
    """Everything of this area."""
    found, pages = Routes(), _Pages(box)
    box.when_open(lambda journal: journal.on_change(lambda changed: _tell(box, changed)))
    found.entry("/alarms", "vitals.alarms", roles=CLINICAL, order=20)
    found.entry("/wearables", "vitals.wearables", roles=KEEPERS, order=60)
    found.get("/alarms", roles=CLINICAL)(pages.alarms)
    found.get("/alarms/fragment", roles=CLINICAL)(pages.alarms_fragment)
    found.get("/alarms/strip", roles=CLINICAL)(pages.strip)
    found.post("/alarms/{id}/acknowledge", roles=CLINICAL)(pages.acknowledge)
    found.get("/patients/{id}/monitor", roles=CLINICAL)(pages.monitor)
    found.get("/patients/{id}/vitals", roles=CLINICAL)(pages.fragment)
    found.post("/patients/{id}/vitals", roles=CLINICAL)(pages.enter)
    found.get("/patients/{id}/vitals.json", roles=CLINICAL)(pages.trend)
    found.get("/wearables", roles=KEEPERS)(pages.wearables)
    found.get("/wearables/fragment", roles=KEEPERS)(pages.wearables_fragment)
    found.get("/wearables/authority.pem", roles=KEEPERS)(pages.authority)
    found.post("/wearables", roles=KEEPERS)(pages.add)
    found.post("/wearables/{id}/revoke", roles=KEEPERS)(pages.revoke)
    return found


def _tell(box: "Box", changed: set[tuple[str, str]]) -> None:
    """Open pages look again. An alarm is told first: it is what the others wait for."""
    kinds = {kind for kind, _ in changed}
    if Alarm.SHEET in kinds:
        box.live.tell("alarm", roles=CLINICAL)
    for kind, key in changed:
        if kind == Vitals.SHEET:
            box.live.tell(f"vitals-{key}", roles=CLINICAL)
    if kinds & {WearableState.SHEET, Wearable.SHEET}:
        box.live.tell("wearable", roles=KEEPERS)


class _Pages:
    def __init__(self, box: "Box") -> None:
        self._box = box

    @property
    def _sheets(self) -> Sheets:
        return self._box.journal.sheets

    # -- alarms

    async def alarms(self, visit: Visit) -> web.StreamResponse:
        return self._alarms(visit, "vitals/alarms.html")

    async def alarms_fragment(self, visit: Visit) -> web.StreamResponse:
        return self._alarms(visit, "vitals/alarms_fragment.html")

    def _alarms(self, visit: Visit, page: str) -> web.Response:
        found = self._sheets.find(Alarm, limit=_SHOWN_ALARMS, newest=True)
        items = {alarm.id: self._box.item(RecordId(bytes.fromhex(alarm.id))) for alarm in found}
        return visit.page(page, alarms=found, who=self._names(found), items=items)

    async def strip(self, visit: Visit) -> web.StreamResponse:
        found = bedside.standing(self._sheets)
        ringing = [alarm for alarm in found if alarm.state is AlarmState.RINGING]
        loudest = max((alarm.severity for alarm in ringing), key=lambda s: s.rank, default="")
        return visit.page(
            "vitals/strip.html",
            ringing=ringing,
            loudest=loudest,
            who=self._names(ringing),
            totals={alarm.id: self._total(alarm.patient_id) for alarm in ringing},
            problem=self._box.devices.problem,
            full=self._box.storage.causes,
        )

    async def acknowledge(self, visit: Visit) -> web.StreamResponse:
        actor, alarm = visit.actor, visit.match("id")
        note = (await visit.form(Heard)).note
        await visit.once(
            self._box.journal.transact,
            lambda book: desk.acknowledge(book, alarm, actor, note),
            type(None),
        )
        return visit.see_other("/alarms", id=alarm)

    def _total(self, patient: str) -> int | None:
        """NEWS2 by now, where all of it is known: an alarm says what it was when it was raised."""
        if not patient:
            return None
        bed = bedside.bedside(self._sheets, patient, self._box.clock.now_ms)
        return None if bed.exempt or bed.score is None else bed.score.total

    def _names(self, found: list[Alarm]) -> dict[str, str]:
        """Whom each alarm is about: the patient's name, or the device's."""
        names = {}
        for alarm in found:
            patient = self._sheets.get(Patient, alarm.patient_id)
            device = self._sheets.get(Wearable, alarm.device_id)
            name = patient.name if patient else device.name if device else ""
            names[alarm.id] = name
        return names

    # -- one patient

    async def monitor(self, visit: Visit) -> web.StreamResponse:
        actor, patient_id = visit.actor, visit.match("id")

        def read(book: Book) -> Patient:
            patient = known_patient(book, patient_id)
            book.audit(actor.id, "read", f"patient/{patient_id}")
            return patient

        patient = await self._box.journal.transact(read)
        return visit.page("vitals/monitor.html", patient=patient, hours=HOURS, **self._bed(visit))

    async def fragment(self, visit: Visit) -> web.StreamResponse:
        """A part of other pages, which note that it was read."""
        return visit.page("vitals/fragment.html", **self._bed(visit))

    def _bed(self, visit: Visit) -> dict[str, Any]:
        subject = known_patient(self._sheets, visit.match("id")).id
        now_ms = self._box.clock.now_ms
        return {"bed": bedside.bedside(self._sheets, subject, now_ms), "meaning": MEANING}

    async def enter(self, visit: Visit) -> web.StreamResponse:
        actor, patient = visit.actor, visit.match("id")
        found = (await visit.form(Entered)).measurements()
        identity = await visit.once(
            self._box.journal.transact,
            lambda book: desk.enter_vitals(book, patient, found, actor),
            str,
        )
        return visit.see_other(f"/patients/{patient}/monitor", id=identity)

    async def trend(self, visit: Visit) -> web.StreamResponse:
        """JSON for the chart."""
        subject = known_patient(self._sheets, visit.match("id")).id
        since_ms = self._box.clock.now_ms - hours_of(visit)
        return trend_answer(bedside.trend(self._sheets, subject, since_ms))

    # -- wearables

    async def wearables(self, visit: Visit) -> web.StreamResponse:
        return self._wearables(visit, "vitals/wearables.html")

    async def wearables_fragment(self, visit: Visit) -> web.StreamResponse:
        return self._wearables(visit, "vitals/wearables_fragment.html")

    def _wearables(self, visit: Visit, page: str) -> web.Response:
        devices = self._box.devices
        return visit.page(
            page,
            devices=[self._device(each) for each in self._sheets.find(Wearable, newest=True)],
            ports=devices.listeners,
            problem=devices.problem,
            listener_pid=devices.listener.pid,
        )

    def _device(self, wearable: Wearable) -> Device:
        sheets, node = self._sheets, self._box.node
        worn = bindings.worn_by(sheets, node, wearable.id, self._box.clock.now_ms)
        return Device(
            wearable=wearable,
            state=sheets.get(WearableState, wearable.id) or WearableState(id=wearable.id),
            connected=self._box.devices.listener.connected(wearable.id),
            patient=sheets.get(Patient, worn.patient) if worn else None,
            refusals=sheets.find(Refusal, owner=wearable.id, limit=10, newest=True),
        )

    async def authority(self, _visit: Visit) -> web.StreamResponse:
        """What a device has to trust."""
        return web.Response(text=self._box.authority.pem, content_type="application/x-pem-file")

    async def add(self, visit: Visit) -> web.StreamResponse:
        """The password is on this page and nowhere else: sent again, there is only the device."""
        name, act = (await visit.form(Named)).name, await visit.act()
        made = await self._box.devices.add(name, visit.actor, act)
        if made is None:
            return visit.see_other("/wearables")
        ports = self._box.devices.listeners
        text = f"lianzhen-device:{made.device_id}:{made.password}"
        code = "" if visit.wants_json else segno.make(text, error="m").svg_data_uri(scale=5)
        return visit.page(
            "vitals/added.html",
            id=made.device_id,
            password=made.password,
            name=name,
            port=ports.port,
            plain_port=ports.plain,
            code=code,
        )

    async def revoke(self, visit: Visit) -> web.StreamResponse:
        device = visit.match("id")
        await self._box.devices.revoke(device, visit.actor, await visit.act())
        return visit.see_other("/wearables", id=device)
