"""Alarms on the box: judged in the transaction of the reading that they rest on, and by the clock.

The clock's turn is for what no reading tells: a device that is silent, and a danger that is over
because nothing is known any more.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final

from lianzhen_edge.journal.book import Book
from lianzhen_edge.journal.journal import Journal
from lianzhen_protocol import alarms
from lianzhen_protocol.alarms import (
    STREAM,
    Alarm,
    AlarmEnded,
    AlarmLowered,
    AlarmRaised,
    AlarmState,
    Condition,
    Danger,
    Ease,
    End,
    EndReason,
    Lower,
    Raise,
)
from lianzhen_protocol.bindings import worn_by
from lianzhen_protocol.minutes import Minute
from lianzhen_protocol.vitals import Reading
from lianzhen_protocol.wearables import Wearable

from .sheets import WearableState

TICK_SECONDS: Final = 15.0
KEEP_MS: Final = 30 * 86_400_000
"""How long a box shows a reading; one that waits for its patient stays."""

_FORGET_AT_ONCE: Final = 500


def judge_reading(book: Book, reading: Reading) -> bool:
    """What a new reading means for its subject's alarm; True if that is news."""
    return judge_subject(book, reading.subject, reading)


def judge_subject(book: Book, subject: str, reading: Reading | None = None) -> bool:
    """NEWS2 of a subject as it is now. ``reading`` is the newest, where one has just come."""
    score = alarms.assess(book, subject, book.now_ms).score
    active = alarms.active_alarm(book, Condition.NEWS2, subject)
    found = alarms.danger(score) if score else None
    if reading is None and active is None:
        return False
    about = partial(
        AlarmRaised,
        condition=Condition.NEWS2,
        patient_id=reading.patient_id if reading else active.patient_id if active else "",
        device_id=reading.body.device_id if reading else active.device_id if active else "",
        reading_id=reading.id if reading else "",
        at_least=score.at_least if score else 0,
        missing=tuple(score.missing) if score else (),
        measured_ms=reading.body.corrected_ms if reading else book.now_ms,
        raised_ms=book.now_ms,
    )
    known = score is not None and len(score.missing) < len(score.parts)
    return act(book, active, found, about, EndReason.OVER if known else EndReason.NO_VALUES)


def judge_silence(book: Book, device: Wearable) -> None:
    """Whether a device is missed on the patient who wears it."""
    worn = worn_by(book, book.node, device.id, book.now_ms)
    if worn is None:
        return
    state = book.get(WearableState, device.id) or WearableState(id=device.id)
    heard_ms = max(worn.from_ms, state.value_ms)
    active = alarms.active_alarm(book, Condition.SILENT, worn.patient, device.id)
    about = partial(
        AlarmRaised,
        condition=Condition.SILENT,
        patient_id=worn.patient,
        device_id=device.id,
        measured_ms=heard_ms,
        raised_ms=book.now_ms,
    )
    act(book, active, alarms.silent(heard_ms, book.now_ms), about, EndReason.OVER)


def end_removed(book: Book, device: str, patient: str = "") -> None:
    """A device was taken off (``patient``) or shut out by a person: nobody misses it any more."""
    for alarm in _standing(book):
        about_it = alarm.condition is Condition.SILENT and alarm.device_id == device
        if about_it and patient in ("", alarm.patient_id):
            _end(book, alarm, EndReason.REMOVED)


def forget(book: Book) -> None:
    """Let go of what nobody looks at here any more; the hub has it, as long as records are kept."""
    before_ms = book.now_ms - KEEP_MS
    oldest = book.find(Reading, state="assigned", limit=1)
    if oldest and oldest[0].body.corrected_ms < before_ms:
        for reading in book.find(Reading, state="assigned", limit=_FORGET_AT_ONCE):
            if reading.body.corrected_ms < before_ms:
                book.delete(Reading, reading.id)
    minutes = book.find(Minute, state="assigned", limit=1)
    if minutes and minutes[0].to_ms < before_ms:
        for minute in book.find(Minute, state="assigned", limit=_FORGET_AT_ONCE):
            if minute.to_ms < before_ms:
                book.delete(Minute, minute.id)


def look_around(book: Book) -> None:
    """The clock's turn: silent devices, dangers that are over, devices that were taken off."""
    forget(book)
    live = {device.id: device for device in book.find(Wearable, state="live")}
    for device in live.values():
        judge_silence(book, device)
    for alarm in _standing(book):
        if alarm.condition is Condition.NEWS2:
            judge_subject(book, alarm.subject)
        elif alarm.condition is Condition.SILENT and not _worn(book, alarm, live):
            _end(book, alarm, EndReason.REMOVED)


async def watch(journal: Journal) -> None:
    """Look around, for ever; a service whose fault is a JournalError."""
    while True:
        await journal.transact(look_around)
        await asyncio.sleep(TICK_SECONDS)


def _worn(book: Book, alarm: Alarm, live: dict[str, Wearable]) -> bool:
    worn = worn_by(book, book.node, alarm.device_id, book.now_ms)
    return alarm.device_id in live and worn is not None and worn.patient == alarm.patient_id


def _standing(book: Book) -> list[Alarm]:
    states = (AlarmState.RINGING, AlarmState.ACKNOWLEDGED)
    return [alarm for state in states for alarm in book.find(Alarm, state=state)]


def act(
    book: Book,
    active: Alarm | None,
    found: Danger | None,
    about: Callable[..., AlarmRaised],
    reason: EndReason,
) -> bool:
    """Carry a verdict out; ``about`` is what a new alarm says, but for severity and causes.

    True if a record was written.
    """
    now = book.now_ms
    match alarms.judge(active, found, now):
        case Raise(severity, causes):
            before = active.id if active else ""
            book.write(STREAM, about(severity=severity, causes=causes, replaces=before))
        case Lower(severity, causes) if active:
            book.write(
                STREAM,
                AlarmLowered(alarm_id=active.id, severity=severity, causes=causes, at_ms=now),
            )
        case Ease(since_ms) if active:
            book.put(alarms.eased(active, since_ms))
            return False
        case End() if active:
            _end(book, active, reason)
        case _:
            return False
    return True


def _end(book: Book, alarm: Alarm, reason: EndReason) -> None:
    book.write(STREAM, AlarmEnded(alarm_id=alarm.id, reason=reason, at_ms=book.now_ms))
