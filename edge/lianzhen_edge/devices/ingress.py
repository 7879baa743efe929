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
from lianzhen_protocol.vitals import Reading, VitalsReading
from lianzhen_protocol.wearables import Message, Receipt, Wearable
from lianzhen_runtime.log import Log
from lianzhen_runtime.mqtt import Session

from . import broker
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
            return Receipt("", code=error.code, reason=str(error))
        except Exception:  # noqa: BLE001 - one message's boundary: the next one is stored
            _log.error("a message could not be stored", exc_info=True, service="devices")
            return None
        _log.transition("wearables", "are stored")
        self.problem = ""
        return receipt if receipt.id else None


def take(book: Book, device: str, payload: bytes, received_ms: int) -> Receipt:
    """One message of a device, in one transaction: reading, alarm, clock, or its refusal."""
    name = wearables.message_id(payload)
    wearable = book.get(Wearable, device)
    if wearable is None or wearable.revoked_ms:
        return Receipt(name, code="device-revoked", reason="this device was shut out")
    state = book.get(WearableState, device) or WearableState(id=device)
    try:
        parsed = wearables.parse(payload)
        clock, corrected = wearables.correct(state.clock, parsed.message, received_ms)
    except ReadingError as error:
        refuse(book, device, error.code, str(error), payload)
        book.put(seen(state, received_ms, refused=1))
        return Receipt(name, code=error.code, reason=str(error))
    identity = reading_id(device, parsed.message)
    known = book.get(Reading, identity)
    if known is not None:
        book.put(seen(msgspec.structs.replace(state, clock=clock), received_ms))
        return Receipt(name, stored=identity)
    for doubt in parsed.doubts:
        refuse(book, device, "implausible", doubt, payload)
    has_value = any(found.absent is None for found in parsed.measurements)
    state = msgspec.structs.replace(
        seen(state, received_ms, stored=1, refused=len(parsed.doubts)),
        clock=clock,
        mark=corrected.mark,
        value_ms=received_ms if has_value else state.value_ms,
    )
    book.put(state)
    body = VitalsReading(
        patient_id=joins.patient_at(book, book.node, device, corrected.at_ms),
        device_id=device,
        message_id=parsed.message.id,
        measurements=parsed.measurements,
        device_ms=parsed.message.measured_ms,
        sent_ms=parsed.message.sent_ms,
        received_ms=received_ms,
        corrected_ms=corrected.at_ms,
        offset_ms=corrected.offset_ms,
        clock=corrected.mark,
    )
    keep(book, body, identity)
    return Receipt(name, stored=identity)


def keep(book: Book, body: VitalsReading, identity: str | None = None) -> str:
    """Write a reading, let it wait in the tray if it is nobody's, and judge it; its id."""
    found = book.write(vitals.STREAM, body, identity)
    reading = book.get(Reading, found)
    if reading is None:  # the journal knew it, and its sheet is gone since
        return found
    if not reading.patient_id:
        device = body.device_id
        joins.wait_reading(book, book.node, device, body.corrected_ms, book.new_id())
    judge_reading(book, reading)
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
