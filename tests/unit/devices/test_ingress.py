"""What a message, a passing hour and a person do on the box, on a real journal."""

import json
from collections.abc import AsyncIterator, Callable
from datetime import date
from pathlib import Path
from typing import TypeVar

import pytest

from lianzhen_edge.devices import desk, ingress, watch
from lianzhen_edge.devices.sheets import KEPT_REFUSALS, Refusal, WearableLogin, WearableState
from lianzhen_edge.journal.book import Book
from lianzhen_edge.journal.journal import Journal
from lianzhen_edge.meanings import MEANINGS
from lianzhen_protocol import joins, vitals
from lianzhen_protocol.alarms import (
    EASE_MS,
    SILENT_MS,
    Alarm,
    AlarmState,
    Condition,
    EndReason,
    Severity,
)
from lianzhen_protocol.bindings import Binding
from lianzhen_protocol.people import By, Patient, Sex
from lianzhen_protocol.vitals import Parameter, Reading, Vitals
from lianzhen_protocol.wearables import Receipt
from lianzhen_runtime.keys import FileKeys
from support.wearable import message

from .conftest import NODE, NURSE

START = 1_795_400_000_000
PATIENT = "a" * 32
MINUTE = 60_000
T = TypeVar("T")


class Box:
    """A journal whose clock is ours, one device, one patient."""

    def __init__(self, journal: Journal, now: list[int]) -> None:
        self.journal = journal
        self._now = now
        self.device = ""

    @property
    def now(self) -> int:
        return self._now[0]

    def later(self, ms: int) -> None:
        self._now[0] += ms

    async def do(self, work: Callable[[Book], T]) -> T:
        return await self.journal.transact(work)

    async def hears(self, name: str, age: int = 0, **values: object) -> Receipt:
        return await self.hears_bytes(message(name, self.now - age, self.now, **values))

    async def hears_bytes(self, payload: bytes) -> Receipt:
        return await self.do(lambda book: ingress.take(book, self.device, payload, self.now))

    async def wear(self, born: date | None = None, from_ms: int = START) -> None:
        patient = Patient(
            id=PATIENT,
            node=NODE,
            number="100000018",
            name="张三",
            sex=Sex.MALE,
            birth_date=born,
            registered_by=By(account=NURSE.id, name=NURSE.name),
            registered_ms=START,
        )
        binding = Binding(
            id="b" * 32,
            node=NODE,
            device=self.device,
            patient=PATIENT,
            from_ms=from_ms,
            bound_by=By(account=NURSE.id, name=NURSE.name),
        )

        def put(book: Book) -> None:
            book.put(patient)
            book.put(binding)

        await self.do(put)

    def alarms(self, state: AlarmState | None = None) -> list[Alarm]:
        return self.journal.sheets.find(Alarm, state=state)


@pytest.fixture
async def box(tmp_path: Path) -> AsyncIterator[Box]:
    now = [START]
    keys = FileKeys(tmp_path / "keys")
    journal = await Journal.open(
        tmp_path / "journal.db", NODE, keys, lambda: now[0], meanings=MEANINGS
    )
    made = Box(journal, now)
    credentials = await made.do(lambda book: desk.add_device(book, "Band 7", NURSE))
    made.device = credentials.device_id
    yield made
    await journal.close()


async def test_a_reading_is_the_wearers_at_its_corrected_time(box: Box) -> None:
    await box.wear(from_ms=START + 10 * MINUTE)
    box.later(20 * MINUTE)
    before = await box.hears("before", age=15 * MINUTE, pulse=70)
    during = await box.hears("during", age=MINUTE, pulse=80)
    owners = {each.id: each.patient_id for each in box.journal.sheets.find(Reading)}
    assert owners == {before.stored: "", during.stored: PATIENT}
    (item,) = joins.tray(box.journal.sheets)
    assert (item.from_ms, item.to_ms) == (START + 5 * MINUTE, START + 5 * MINUTE)
    state = box.journal.sheets.get(Vitals, PATIENT)
    assert state is not None
    assert state.latest[Parameter.PULSE].value == 80


async def test_the_password_is_kept_nowhere(box: Box) -> None:
    made = await box.do(lambda book: desk.add_device(book, "Band 8", NURSE))
    login = box.journal.sheets.get(WearableLogin, made.device_id)
    assert login is not None
    assert login.hashed.startswith("$7$1000$")
    assert made.password not in login.hashed


async def test_the_newest_refusals_are_kept(box: Box) -> None:
    for number in range(KEPT_REFUSALS + 7):
        box.later(1)
        receipt = await box.hears_bytes(json.dumps({"id": f"m{number}"}).encode())
        assert receipt.code == "reading-malformed"
    kept = box.journal.sheets.find(Refusal, owner=box.device)
    assert len(kept) == KEPT_REFUSALS
    assert kept[-1].payload == f'{{"id": "m{KEPT_REFUSALS + 6}"}}'
    state = box.journal.sheets.get(WearableState, box.device)
    assert state is not None
    assert state.refused == KEPT_REFUSALS + 7


async def test_an_alarm_from_ringing_to_its_end(box: Box) -> None:
    await box.wear()
    await box.hears("1", spo2=84)
    (alarm,) = box.alarms(AlarmState.RINGING)
    assert (alarm.patient_id, alarm.severity, alarm.causes) == (PATIENT, "urgent", ("spo2",))

    box.later(10 * MINUTE)
    await box.hears("2", spo2=97)
    await box.do(watch.look_around)
    assert [each.id for each in box.alarms(AlarmState.RINGING)] == [alarm.id]  # latched

    await box.do(lambda book: desk.acknowledge(book, alarm.id, NURSE, "吸氧"))
    (heard,) = box.alarms(AlarmState.ACKNOWLEDGED)
    assert heard.acknowledged_by == By(account=NURSE.id, name="王护士")
    assert heard.note == "吸氧"
    with pytest.raises(desk.AlarmHeard, match="王护士 has acknowledged it already"):
        await box.do(lambda book: desk.acknowledge(book, alarm.id, NURSE))

    await box.do(watch.look_around)
    box.later(EASE_MS)
    await box.do(watch.look_around)
    (ended,) = box.alarms()
    assert (ended.state, ended.end_reason) == (AlarmState.ENDED, EndReason.OVER)


async def test_a_graver_danger_replaces_an_alarm_that_was_heard(box: Box) -> None:
    await box.wear()
    await box.hears("1", spo2=84)
    (first,) = box.alarms()
    await box.do(lambda book: desk.acknowledge(book, first.id, NURSE))
    await box.hears("2", spo2=84)
    assert len(box.alarms()) == 1
    await box.hears("3", pulse=135, temperature=39.5)
    (second,) = box.alarms(AlarmState.RINGING)
    assert (second.severity, second.replaces) == (Severity.EMERGENCY, first.id)
    assert second.at_least == 8
    with pytest.raises(desk.AlarmHeard):
        await box.do(lambda book: desk.acknowledge(book, first.id, NURSE))
    with pytest.raises(desk.NoSuchAlarm):
        await box.do(lambda book: desk.acknowledge(book, "0" * 32, NURSE))


async def test_a_device_that_falls_silent_on_a_patient_is_missed(box: Box) -> None:
    await box.do(watch.look_around)
    await box.wear(from_ms=box.now)
    await box.hears("1", pulse=80)
    box.later(SILENT_MS - 1)
    await box.do(watch.look_around)
    assert box.alarms() == []
    await box.hears("2", pulse={"absent": "error"})  # it speaks, and has nothing to say
    box.later(1)
    await box.do(watch.look_around)
    await box.do(watch.look_around)
    (alarm,) = box.alarms(AlarmState.RINGING)
    assert (alarm.condition, alarm.severity) == (Condition.SILENT, Severity.TECHNICAL)
    assert (alarm.patient_id, alarm.device_id) == (PATIENT, box.device)

    await box.do(lambda book: desk.acknowledge(book, alarm.id, NURSE))
    await box.hears("3", pulse=80)
    await box.do(watch.look_around)
    box.later(EASE_MS)
    await box.do(watch.look_around)
    assert box.alarms()[0].end_reason is EndReason.OVER


async def test_a_device_that_is_shut_out_is_not_missed(box: Box) -> None:
    await box.wear(from_ms=box.now)
    box.later(SILENT_MS)
    await box.do(watch.look_around)
    assert len(box.alarms(AlarmState.RINGING)) == 1
    await box.do(lambda book: desk.revoke_device(book, box.device, NURSE))
    assert [each.end_reason for each in box.alarms()] == [EndReason.REMOVED]
    await box.do(watch.look_around)
    assert len(box.alarms()) == 1
    assert (await box.hears("late", pulse=80)).code == "device-revoked"
    with pytest.raises(desk.DeviceRevoked):
        await box.do(lambda book: desk.revoke_device(book, box.device, NURSE))


async def test_children_are_not_scored_with_a_score_for_adults(box: Box) -> None:
    await box.wear(born=date(2020, 1, 1))
    await box.hears("1", spo2=84, pulse=140)
    assert box.alarms() == []


async def test_what_a_nurse_types_in_counts_with_what_a_device_says(box: Box) -> None:
    await box.wear()
    await box.hears("1", spo2=95, pulse=105, respiration=22)
    assert box.alarms() == []
    typed = (
        vitals.coded(Parameter.CONSCIOUSNESS, "A"),
        vitals.measured(Parameter.TEMPERATURE, 38.4, "Cel"),
        vitals.measured(Parameter.OXYGEN, 2, "L/min"),
    )
    entered = await box.do(lambda book: desk.enter_vitals(book, PATIENT, typed, NURSE))
    reading = box.journal.sheets.get(Reading, entered)
    assert reading is not None
    assert reading.body.entered_by == By(account=NURSE.id, name="王护士")
    (alarm,) = box.alarms()
    assert (alarm.severity, alarm.at_least, alarm.missing) == ("emergency", 7, ("systolic",))


async def test_old_readings_are_forgotten_and_those_that_wait_are_not(box: Box) -> None:
    waits = await box.hears("early", age=MINUTE, pulse=70)
    await box.wear()
    await box.hears("old", pulse=80)
    box.later(watch.KEEP_MS - MINUTE)
    fresh = await box.hears("fresh", pulse=81)
    box.later(2 * MINUTE)
    await box.do(watch.look_around)
    kept = {each.id for each in box.journal.sheets.find(Reading)}
    assert kept == {waits.stored, fresh.stored}


async def test_a_reading_that_was_forgotten_is_not_stored_again(box: Box) -> None:
    first = await box.hears("1", pulse=80)
    await box.do(lambda book: book.delete(Reading, first.stored))
    again = await box.hears("1", pulse=80)
    assert again.stored == first.stored
