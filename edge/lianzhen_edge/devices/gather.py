"""A device that streams: its readings are kept and judged one by one, and told as minutes.

A reading of a stream is a sheet from the moment of its receipt, and no record yet. When its minute
is over, one record says all of it, and in the same commit one sheet takes the place of sixty. What
a crash leaves is a minute that is still open, with all its readings on the disk.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from lianzhen_edge.journal.book import Book
from lianzhen_edge.journal.errors import JournalError, JournalFull
from lianzhen_edge.journal.journal import Journal
from lianzhen_protocol import alarms, joins, keepers, series, vitals
from lianzhen_protocol.alarms import Condition
from lianzhen_protocol.minutes import STREAM_GAP_MS, Minute
from lianzhen_protocol.series import Sample, VitalsSeries
from lianzhen_protocol.vitals import ClockMark, Reading, VitalsReading
from lianzhen_protocol.wearables import MAX_AGE_MS, Message
from lianzhen_runtime.log import Log

from .sheets import Answered, Gathering, Told, WearableState
from .watch import judge_reading

MINUTE_MS: Final = 60_000
ALARMED_MS: Final = 10_000
"""How much a record holds while an alarm of its patient stands."""

MOST: Final = 120
"""Readings of a minute, for a device that is faster than each second."""

LATE_MS: Final = 10_000
"""A minute waits for so long after its end; and a device that says nothing for so long is gone."""

_LOOKED_AT: Final = 100
_TICK_SECONDS: Final = 5.0
_KEPT_MS: Final = MAX_AGE_MS + 86_400_000
_log = Log("lianzhen.devices")


# -- readings


def streams(state: WearableState, body: VitalsReading) -> bool:
    """Whether a reading is part of a stream; ``state`` is the device's before it came."""
    apart = abs(body.device_ms - state.measured_ms)
    steady = body.clock is not ClockMark.JUMPED
    even = body.corrected_ms == body.device_ms + body.offset_ms and steady
    return 0 < apart <= STREAM_GAP_MS and even and series.fits(body.measurements)


def known(book: Book, device: str, message: Message) -> str | None:
    """The reading of a message that was part of a stream; None for a new one."""
    gathering = book.get(Gathering, device)
    told = gathering.told if gathering else ()
    since = message.measured_ms - MINUTE_MS
    for minute in book.find(Answered, owner=device, since_ms=since, limit=_LOOKED_AT):
        if minute.first.device_ms > message.measured_ms:
            break
        told += tuple(_absolute(minute.first, each) for each in minute.told)
    for each in told:
        if (each.message_id, each.device_ms) == (message.id, message.measured_ms):
            return _id(device, each)
    return None


def add(book: Book, body: VitalsReading) -> str | None:
    """Keep and judge a reading of a stream; its id. None if it has to go singly."""
    device, told = body.device_id, Told(body.message_id, body.device_ms, body.offset_ms)
    identity = _id(device, told)
    open_ = book.get(Gathering, device)
    if open_ is not None and _breaks(open_, body):
        flush(book, open_)
        open_ = None
    if book.get(Reading, identity) is not None:
        return None  # another message of the same moment
    if open_ is not None and body.device_ms in {each.device_ms for each in open_.told}:
        return None
    keepers.take_reading(book, identity, body, book.node)
    reading = book.get(Reading, identity)
    news = reading is not None and noticed(book, reading)
    made = Gathering(
        id=device,
        patient_id=body.patient_id,
        clock=body.clock,
        opened_ms=open_.opened_ms if open_ else body.received_ms,
        heard_ms=body.received_ms,
        told=(*(open_.told if open_ else ()), told),
    )
    book.put(made)
    if news or _due_by(book, made):
        flush(book, made)
    return identity


def noticed(book: Book, reading: Reading) -> bool:
    """A reading was kept: it waits in the tray if it is nobody's, and is judged. True: an alarm."""
    body = reading.body
    if not reading.patient_id:
        joins.wait_reading(book, book.node, body.device_id, body.corrected_ms, book.new_id())
    return judge_reading(book, reading)


def _breaks(open_: Gathering, body: VitalsReading) -> bool:
    """Whether a reading is no part of the minute that is open."""
    same = (open_.patient_id, open_.clock) == (body.patient_id, body.clock)
    return not same or open_.span_ms(body.device_ms) >= MINUTE_MS or len(open_.told) >= MOST


def _due_by(book: Book, open_: Gathering) -> bool:
    """Whether a patient in danger has waited long enough."""
    if open_.span_ms(open_.told[0].device_ms) < ALARMED_MS:
        return False
    subject = open_.patient_id or open_.id
    return alarms.active_alarm(book, Condition.NEWS2, subject) is not None


def _id(device: str, told: Told) -> str:
    return series.sample_id(bytes.fromhex(device), Sample(told.device_ms, told.offset_ms, ()))


def _absolute(first: Told, each: Told) -> Told:
    return Told(each.message_id, first.device_ms + each.device_ms, first.offset_ms + each.offset_ms)


# -- minutes


def flush(book: Book, open_: Gathering) -> None:
    """The minute is over: one record, and one sheet, in place of its readings."""
    told = sorted(open_.told, key=lambda each: each.device_ms)
    found = [book.get(Reading, _id(open_.id, each)) for each in told]
    kept = [each for each in found if each is not None]
    book.delete(Gathering, open_.id)
    if len(kept) > 1:
        _write(book, open_, kept)
    elif kept:
        book.write(vitals.STREAM, kept[0].body, kept[0].id)
    _remember(book, open_.id, told)


def _remember(book: Book, device: str, told: list[Told]) -> None:
    """What was answered, in place of what was answered longer ago than a device may ask."""
    for old in book.find(Answered, owner=device, limit=2):
        if old.kept_ms < book.now_ms - _KEPT_MS:
            book.delete(Answered, old.id)
    first = told[0]
    made = Answered(
        id=book.new_id(),
        device_id=device,
        first=first,
        told=tuple(
            Told(at.message_id, at.device_ms - first.device_ms, at.offset_ms - first.offset_ms)
            for at in told
        ),
        kept_ms=book.now_ms,
    )
    book.put(made)


def _write(book: Book, open_: Gathering, kept: list[Reading]) -> None:
    samples = [
        Sample(each.body.device_ms, each.body.offset_ms, _in_order(each.body)) for each in kept
    ]
    received_ms = max(each.body.received_ms for each in kept)
    body = VitalsSeries(
        device=bytes.fromhex(open_.id),
        received_ms=received_ms,
        clock=open_.clock,
        samples=series.pack(samples, received_ms),
    )
    identity = book.write(vitals.STREAM, body)
    if book.get(Minute, identity) is not None:  # else they are several people's, and stay
        for each in kept:
            book.delete(Reading, each.id)


def _in_order(body: VitalsReading) -> tuple[vitals.Measurement, ...]:
    return tuple(
        sorted(body.measurements, key=lambda each: series.PARAMETERS.index(each.parameter))
    )


def _over(open_: Gathering, now_ms: int) -> bool:
    """By the box's clock; one that went back ends every minute."""
    if now_ms < open_.heard_ms:
        return True
    return now_ms - open_.heard_ms > LATE_MS or now_ms - open_.opened_ms > MINUTE_MS + LATE_MS


def flush_due(book: Book, *, all_of_them: bool = False) -> None:
    """Write the minutes that no reading will end any more."""
    for open_ in book.find(Gathering):
        if all_of_them or _over(open_, book.now_ms):
            flush(book, open_)


async def keep_minutes(journal: Journal, now_ms: Callable[[], int]) -> None:
    """For ever; when it is cancelled, what is open is written."""
    try:
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            if any(_over(each, now_ms()) for each in journal.sheets.find(Gathering)):
                await _try(journal, all_of_them=False)
    finally:
        await _try(journal, all_of_them=True)


async def _try(journal: Journal, *, all_of_them: bool) -> None:
    try:
        await journal.transact(lambda book: flush_due(book, all_of_them=all_of_them))
    except JournalFull:
        _log.transition("minutes", "wait for room", bad=True)
    except JournalError as error:
        _log.transition("minutes", "cannot be written", bad=True, code=error.code)
    else:
        _log.transition("minutes", "are written")
