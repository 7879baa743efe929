"""A device that streams: minutes of it become records, and no reading is lost, doubled or late."""

import itertools
import secrets
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from lianzhen_edge.devices import gather, ingress, watch
from lianzhen_edge.devices.sheets import Answered, Gathering, WearableState
from lianzhen_edge.journal.book import Book
from lianzhen_edge.journal.errors import JournalFull
from lianzhen_edge.journal.journal import Journal
from lianzhen_edge.meanings import MEANINGS
from lianzhen_protocol import joins, kinds, records, vitals
from lianzhen_protocol.alarms import AlarmRaised, AlarmState
from lianzhen_protocol.minutes import Minute
from lianzhen_protocol.records import Body
from lianzhen_protocol.series import VitalsSeries
from lianzhen_protocol.vitals import ClockMark, Parameter, Reading, Vitals, VitalsReading
from lianzhen_runtime.keys import FileKeys
from support.wearable import message

from .conftest import NODE
from .test_ingress import MINUTE, PATIENT, START, Box, box

__all__ = ("box",)

SECOND = 1000


def written(box: Box, stream: str = vitals.STREAM) -> list[Body]:
    """What the box will tell the hub, in order, but for the device itself."""
    run = box.journal.read(stream, 1, 1000, 1 << 20)
    bodies = [kinds.open_body(records.decode(each)) for each in run.records]
    return [each for each in bodies if isinstance(each, VitalsSeries | VitalsReading | AlarmRaised)]


def times(box: Box) -> list[int]:
    """Corrected time of every reading that is kept, singly or in a minute."""
    found = [each.body.corrected_ms for each in box.journal.sheets.find(Reading)]
    for each in box.journal.sheets.find(Minute):
        found += [reading.body.corrected_ms for reading in each.readings()]
    return sorted(found)


async def stream(box: Box, count: int, first: int = 0, **found: Any) -> list[str]:
    """A reading each second; their ids."""
    stored = []
    for number in range(first, first + count):
        box.later(SECOND)
        values = found or {"pulse": 70 + number % 3}
        receipt = await box.hears(f"m{number}", 0, **values)
        assert receipt.stored
        stored.append(receipt.stored)
    return stored


async def test_a_minute_of_a_stream_is_one_record_and_one_sheet(box: Box) -> None:
    await box.wear()
    stored = await stream(box, 130)
    first, *series = written(box)
    assert isinstance(first, VitalsReading), "who knows what follows it"
    assert [type(each) for each in series] == [VitalsSeries, VitalsSeries]
    minutes = box.journal.sheets.find(Minute, owner=PATIENT)
    assert [len(each.readings()) for each in minutes] == [60, 60]
    assert len(box.journal.sheets.find(Reading)) == 10, "the first, and nine that are gathered"
    assert times(box) == [START + SECOND * (n + 1) for n in range(130)]
    assert stored[1:61] == [each.id for each in minutes[0].readings()]
    state = box.journal.sheets.get(Vitals, PATIENT)
    assert state is not None
    assert state.latest[Parameter.PULSE].reading_id == stored[-1]


async def test_a_device_that_measures_now_and_then_is_told_at_once(box: Box) -> None:
    await box.wear()
    for number in range(4):
        box.later(MINUTE)
        await box.hears(f"m{number}", pulse=80)
    assert [type(each) for each in written(box)] == [VitalsReading] * 4
    assert box.journal.sheets.find(Gathering) == []


async def test_what_no_series_can_carry_goes_singly(box: Box) -> None:
    await box.wear()
    await stream(box, 3)
    await stream(box, 2, 3, consciousness={"code": "A"})
    assert [type(each) for each in written(box)] == [VitalsReading] * 3
    assert times(box) == [START + SECOND * (n + 1) for n in range(5)]


@pytest.mark.parametrize("after", ["while it is gathered", "when it is a record"])
async def test_a_message_that_is_sent_again_is_the_same_reading(box: Box, after: str) -> None:
    await box.wear()
    stored = await stream(box, 5)
    sent = [message(f"m{n}", START + SECOND * (n + 1), box.now, pulse=70 + n % 3) for n in range(5)]
    if after == "when it is a record":
        box.later(MINUTE)
        await box.do(gather.flush_due)
        assert len(box.journal.sheets.find(Minute)) == 1
    for payload, before in zip(sent, stored, strict=True):
        assert (await box.hears_bytes(payload)).stored == before
    assert times(box) == [START + SECOND * (n + 1) for n in range(5)]
    assert await stream(box, 1, 99)


async def test_two_messages_of_one_moment_are_two_readings(box: Box) -> None:
    await box.wear()
    await stream(box, 3)
    other = await box.hears("other", spo2=97)
    assert other.stored
    assert len(times(box)) == 4
    await box.do(lambda book: gather.flush_due(book, all_of_them=True))
    assert len(times(box)) == 4


async def test_a_minute_that_nothing_ends_is_written_after_a_while(box: Box) -> None:
    await box.wear()
    await stream(box, 4)
    await box.do(gather.flush_due)
    assert len(written(box)) == 1, "more may come"
    box.later(gather.LATE_MS + 1)
    await box.do(gather.flush_due)
    assert [type(each) for each in written(box)] == [VitalsReading, VitalsSeries]
    assert box.journal.sheets.find(Gathering) == []
    await stream(box, 1, 4)
    await box.do(gather.flush_due)
    assert len(times(box)) == 5, "the stream goes on as single readings until it is one again"


async def test_an_alarm_does_not_wait_and_neither_do_its_readings(box: Box) -> None:
    await box.wear()
    await stream(box, 4)
    await stream(box, 1, 4, spo2=84)
    (alarm,) = box.alarms(AlarmState.RINGING)
    assert alarm.raised_ms == box.now
    assert [type(each) for each in written(box)] == [VitalsReading, VitalsSeries]
    (minute,) = box.journal.sheets.find(Minute)
    assert alarm.reading_id == minute.readings()[-1].id
    await stream(box, 12, 5, spo2=84)
    assert len(written(box)) == 3, "ten seconds of a patient in danger"
    assert len(box.alarms()) == 1


async def test_a_new_wearer_has_a_minute_of_their_own(box: Box) -> None:
    await stream(box, 5)
    (item,) = joins.tray(box.journal.sheets)
    assert (item.from_ms, item.to_ms) == (START + SECOND, START + 5 * SECOND)
    await box.wear(from_ms=box.now + 1)
    await stream(box, 5, 5)
    assert [type(each) for each in written(box)] == [VitalsReading, VitalsSeries]
    await box.do(lambda book: gather.flush_due(book, all_of_them=True))
    minutes = box.journal.sheets.find(Minute)
    assert [(each.patient_id, len(each.readings())) for each in minutes] == [("", 4), (PATIENT, 5)]


async def test_late_readings_of_a_wrong_clock_lie_at_their_own_time(box: Box) -> None:
    """A device an hour behind, which was away for a minute and sends all of it at once."""
    await box.wear()
    wrong = 60 * MINUTE
    for number in range(3):
        box.later(SECOND)
        now = box.now - wrong
        await box.hears_bytes(message(f"a{number}", now, now, pulse=80))
    away_from = box.now
    box.later(MINUTE)
    for number in range(60):
        measured = away_from + (number + 1) * SECOND - wrong
        await box.hears_bytes(message(f"b{number}", measured, box.now - wrong, pulse=81))
    await box.do(lambda book: gather.flush_due(book, all_of_them=True))
    assert times(box) == [START + (n + 1) * SECOND for n in range(63)]
    told = [each for each in written(box) if isinstance(each, VitalsSeries)]
    assert {each.clock for each in told} == {ClockMark.OFFSET}
    assert told[-1].received_ms == box.now


async def test_what_is_gathered_outlives_the_box(box: Box, tmp_path: Path) -> None:
    await box.wear()
    stored = await stream(box, 8)
    await box.journal.close()  # as a kill leaves it: nothing was written at the end
    again = await Journal.open(
        tmp_path / "journal.db", NODE, FileKeys(tmp_path / "keys"), lambda: box.now,
        meanings=MEANINGS,
    )  # fmt: skip
    after = Box(again, box._now)
    after.device = box.device
    assert await stream(after, 1, 8)
    assert (await after.hears("m7", age=SECOND, pulse=71)).stored == stored[7]
    await after.do(lambda book: gather.flush_due(book, all_of_them=True))
    (minute,) = again.sheets.find(Minute)
    assert [each.id for each in minute.readings()][:7] == stored[1:]
    assert len(times(after)) == 9
    await again.close()


async def test_a_clock_that_jitters_by_milliseconds_keeps_its_steps(box: Box) -> None:
    await box.wear()
    for number in range(20):
        box.later(SECOND)
        delay = (7, 3, 18, 5)[number % 4]
        payload = message(f"m{number}", box.now, box.now, pulse=70)
        came = partial(
            ingress.take, device=box.device, payload=payload, received_ms=box.now + delay
        )
        await box.do(came)
    await box.do(lambda book: gather.flush_due(book, all_of_them=True))
    found = times(box)[5:]
    assert {b - a for a, b in itertools.pairwise(found)} == {SECOND}


async def test_answers_are_remembered_for_as_long_as_a_device_may_ask(box: Box) -> None:
    await box.wear()
    await stream(box, 3)
    await box.do(lambda book: gather.flush_due(book, all_of_them=True))
    box.later(9 * 24 * 60 * MINUTE)
    await stream(box, 3, 3)
    await box.do(lambda book: gather.flush_due(book, all_of_them=True))
    (kept,) = box.journal.sheets.find(Answered)
    assert kept.first.message_id == "m4"


async def test_minutes_are_forgotten_as_readings_are(box: Box) -> None:
    await box.wear()
    await stream(box, 3)
    await box.do(lambda book: gather.flush_due(book, all_of_them=True))
    box.later(watch.KEEP_MS + MINUTE)
    await box.do(watch.look_around)
    assert times(box) == []


# -- a full disk


def full(book: Book) -> None:
    """From here on there is no room, as the writer says it."""
    book._full = JournalFull("the disk is full")


async def test_a_reading_that_a_full_box_refuses_is_judged_all_the_same(box: Box) -> None:
    await box.wear()
    await box.hears("before", pulse=70)
    box.later(MINUTE)
    danger = message("danger", box.now, box.now, spo2=80)

    def refused(book: Book) -> None:
        full(book)
        ingress.take(book, box.device, danger, box.now)

    def judged(book: Book) -> None:
        full(book)
        ingress.weigh(book, box.device, danger, box.now)

    with pytest.raises(JournalFull):
        await box.do(refused)
    for _ in range(3):  # the device has no receipt, and sends it again
        await box.do(judged)
    (alarm,) = box.alarms(AlarmState.RINGING)
    assert (alarm.patient_id, alarm.causes) == (PATIENT, ("spo2",))
    assert len(written(box)) == 1, "and nothing was stored"
    state = box.journal.sheets.get(WearableState, box.device)
    assert state is not None
    assert (state.value_ms, state.stored) == (box.now, 1), "it is not missed either"

    box.later(MINUTE)
    receipt = await box.hears_bytes(danger)  # there is room again
    assert receipt.stored
    assert len(box.alarms()) == 1
    assert len(written(box)) == 2


async def test_nothing_of_a_message_that_is_none_is_judged(box: Box) -> None:
    await box.wear()
    danger = message("m", box.now, box.now, spo2=80)
    for device, payload in (
        (box.device, b"{}"),
        (box.device, secrets.token_bytes(40)),
        ("f" * 32, danger),
    ):
        await box.do(partial(ingress.weigh, device=device, payload=payload, received_ms=box.now))
    assert box.alarms() == []


async def test_a_minute_waits_for_room(box: Box) -> None:
    await box.wear()
    await stream(box, 4)
    box.later(MINUTE)

    def no_room(book: Book) -> None:
        full(book)
        gather.flush_due(book)

    with pytest.raises(JournalFull):
        await box.do(no_room)
    assert len(times(box)) == 4
    await box.do(gather.flush_due)
    assert len(box.journal.sheets.find(Minute)) == 1
    assert len(times(box)) == 4
