"""From a device's message to a durable reading, and the receipt that says so.

The broker's PUBACK says only that the broker holds a message in memory. What is durable is what a
receipt names, and a device that has none sends again: the same message is the same reading.
"""

import asyncio
import hashlib
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec

from lianzhen_edge.journal.book import Book
from lianzhen_edge.journal.errors import JournalError
from lianzhen_edge.journal.journal import Journal
from lianzhen_protocol import joins, vitals, wearables
from lianzhen_protocol.errors import ReadingError
from lianzhen_protocol.identity import uuid7
from lianzhen_protocol.minutes import fold_all
from lianzhen_protocol.vitals import Reading, VitalsReading
from lianzhen_protocol.wearables import Corrected, Message, Parsed, Receipt, Wearable
from lianzhen_runtime.log import Log
from lianzhen_runtime.mqtt import Session

from . import broker, gather
from .sheets import KEPT_REFUSALS, Refusal, WearableState, seen
from .watch import judge_reading

MAX_WAITING: Final = 200
"""Messages of one device in memory; more are dropped, and sent again as they get no receipt."""

_AT_ONCE: Final = 100
_SHOWN_BYTES: Final = 500
_log = Log("lianzhen.devices")


class _Arrived(NamedTuple):
    device: str
    payload: bytes
    received_ms: int


class Ingress:
    """Takes what the broker delivers; ``heard`` is its callback, ``run`` a service's core."""

    def __init__(self, journal: Journal, now_ms: Callable[[], int]) -> None:
        self._journal = journal
        self._now_ms = now_ms
        self._waiting: deque[_Arrived] = deque()
        self._of_device: Counter[str] = Counter()
        self._bell = asyncio.Event()
        self.problem = ""
        """Why the last message was not stored, as a sentence."""

    def heard(self, topic: str, payload: bytes) -> None:
        """One message, at the moment it comes."""
        device = broker.device_of(topic)
        if device is None:
            return
        if self._of_device[device] >= MAX_WAITING:
            _log.transition("wearables", "one sends more than can be stored", bad=True)
            return
        self._of_device[device] += 1
        self._waiting.append(_Arrived(device, payload, self._now_ms()))
        self._bell.set()

    async def run(self, session: Session) -> None:
        """Store what came and answer it, until the session is lost."""
        self._waiting.clear()  # of a session that is gone: their devices send them again
        self._of_device.clear()
        while True:
            await self._next(session)
            batch = [self._waiting.popleft() for _ in range(min(_AT_ONCE, len(self._waiting)))]
            self._of_device -= Counter(arrived.device for arrived in batch)
            # In order: each enters the writer's queue before the next does. One sync is for all.
            async with asyncio.TaskGroup() as group:
                storing = [group.create_task(self._store(arrived)) for arrived in batch]
            for arrived, stored in zip(batch, storing, strict=True):
                if (receipt := stored.result()) is not None:
                    topic = broker.RECEIPTS.format(arrived.device)
                    session.publish(topic, msgspec.json.encode(receipt))

    async def _next(self, session: Session) -> None:
        while not self._waiting:
            self._bell.clear()
            async with asyncio.TaskGroup() as both:
                ringing = both.create_task(self._bell.wait())
                either: set[asyncio.Future[Any]] = {ringing, session.closed}
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
                ringing.cancel()
            if session.closed.done():
                session.closed.result()

    async def _store(self, arrived: _Arrived) -> Receipt | None:
        """What to answer: the receipt of a message that has a name, or why nothing is stored."""
        try:
            receipt = await self._journal.transact(lambda book: take(book, *arrived))
        except JournalError as error:
            _log.transition("wearables", "the journal takes nothing", bad=True, code=error.code)
            self.problem = str(error)
            await self._weigh(arrived)
            return Receipt("", code=error.code, reason=str(error))
        except Exception:  # noqa: BLE001 - one message's boundary: the next one is stored
            _log.error("a message could not be stored", exc_info=True, service="devices")
            return None
        _log.transition("wearables", "are stored")
        self.problem = ""
        return receipt if receipt.id else None

    async def _weigh(self, arrived: _Arrived) -> None:
        """Judge what could not be stored, with what is kept free for alarms."""
        try:
            await self._journal.transact(lambda book: weigh(book, *arrived))
        except JournalError as error:
            _log.transition("judging", "the journal takes no alarm", bad=True, code=error.code)
        except Exception:  # noqa: BLE001 - one message's boundary: the next one is judged
            _log.error("a message could not be judged", exc_info=True, service="devices")


class Heard(NamedTuple):
    """A message that can be used, and its device with it."""

    state: WearableState
    parsed: Parsed
    corrected: Corrected
    received_ms: int

    def body(self, book: Book) -> VitalsReading:
        """The reading that it is, of whoever wore the device then."""
        message, device = self.parsed.message, self.state.id
        return VitalsReading(
            patient_id=joins.patient_at(book, book.node, device, self.corrected.at_ms),
            device_id=device,
            message_id=message.id,
            measurements=self.parsed.measurements,
            device_ms=message.measured_ms,
            sent_ms=message.sent_ms,
            received_ms=self.received_ms,
            corrected_ms=self.corrected.at_ms,
            offset_ms=self.corrected.offset_ms,
            clock=self.corrected.mark,
        )

    def counted(self) -> WearableState:
        """The device, once its reading is kept."""
        has_value = any(found.absent is None for found in self.parsed.measurements)
        return msgspec.structs.replace(
            seen(self.state, self.received_ms, stored=1, refused=len(self.parsed.doubts)),
            mark=self.corrected.mark,
            measured_ms=self.parsed.message.measured_ms,
            value_ms=self.received_ms if has_value else self.state.value_ms,
        )


def hear(book: Book, device: str, payload: bytes, received_ms: int) -> Heard | None:
    """What a message says; None of a device that was shut out. ReadingError says what is wrong."""
    wearable = book.get(Wearable, device)
    if wearable is None or wearable.revoked_ms:
        return None
    state = book.get(WearableState, device) or WearableState(id=device)
    parsed = wearables.parse(payload)
    clock, corrected = wearables.correct(state.clock, parsed.message, received_ms)
    return Heard(msgspec.structs.replace(state, clock=clock), parsed, corrected, received_ms)


def take(book: Book, device: str, payload: bytes, received_ms: int) -> Receipt:
    """One message of a device, in one transaction: reading, alarm, clock, or its refusal."""
    name = wearables.message_id(payload)
    try:
        heard = hear(book, device, payload, received_ms)
    except ReadingError as error:
        refuse(book, device, error.code, str(error), payload)
        state = book.get(WearableState, device) or WearableState(id=device)
        book.put(seen(state, received_ms, refused=1))
        return Receipt(name, code=error.code, reason=str(error))
    if heard is None:
        return Receipt(name, code="device-revoked", reason="this device was shut out")
    message = heard.parsed.message
    identity = reading_id(device, message)
    if book.get(Reading, identity) is None:
        before = gather.known(book, device, message)
    else:
        before = identity
    if before is not None:
        book.put(seen(heard.state, received_ms))
        return Receipt(name, stored=before)
    for doubt in heard.parsed.doubts:
        refuse(book, device, "implausible", doubt, payload)
    body = heard.body(book)
    streamed = gather.add(book, body) if gather.streams(heard.state, body) else None
    book.put(heard.counted())
    return Receipt(name, stored=streamed or keep(book, body, identity))


def weigh(book: Book, device: str, payload: bytes, received_ms: int) -> None:
    """A message for which there is no room: nothing is kept of it, but its danger rings.

    What its patient's state and the device's become has its place already, or uses the reserve.
    """
    try:
        heard = hear(book, device, payload, received_ms)
    except ReadingError:
        return
    if heard is None:
        return
    body = heard.body(book)
    reading = Reading(id="", node=book.node, patient_id=body.patient_id, body=body)
    fold_all(book, reading.subject, [reading])
    judge_reading(book, reading)
    if (state := book.get(WearableState, device)) is not None:
        value_ms = heard.counted().value_ms
        book.put(msgspec.structs.replace(state, seen_ms=received_ms, value_ms=value_ms))


def keep(book: Book, body: VitalsReading, identity: str | None = None) -> str:
    """Write a reading, let it wait in the tray if it is nobody's, and judge it; its id."""
    found = book.write(vitals.STREAM, body, identity)
    reading = book.get(Reading, found)
    if reading is not None:  # else the journal knew it, and its sheet is gone since
        gather.noticed(book, reading)
    return found


def reading_id(device: str, message: Message) -> str:
    """The same for the same message, however often it is sent."""
    digest = hashlib.sha256(f"{device}/{message.id}".encode()).digest()
    return uuid7(message.measured_ms, digest[:10]).hex()


def refuse(book: Book, device: str, code: str, reason: str, payload: bytes) -> None:
    """Keep what could not be used, for a person to look at; the oldest make room."""
    known = book.find(Refusal, owner=device)
    for old in known[: max(0, len(known) - KEPT_REFUSALS + 1)]:
        book.delete(Refusal, old.id)
    text = payload[:_SHOWN_BYTES].decode(errors="replace")
    book.put(
        Refusal(
            id=book.new_id(),
            device_id=device,
            at_ms=book.now_ms,
            code=code,
            reason=reason,
            payload=text,
        )
    )
