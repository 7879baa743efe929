"""What people do about wearables, readings and alarms, each by name and in one commit."""

import base64
import secrets
from typing import Final, NamedTuple

from lianzhen_edge.journal.book import Book
from lianzhen_protocol import alarms, vitals
from lianzhen_protocol.accounts import Actor
from lianzhen_protocol.alarms import Alarm, AlarmAcknowledged
from lianzhen_protocol.people import By, known_patient
from lianzhen_protocol.vitals import Measurement, VitalsReading
from lianzhen_protocol.wearables import Wearable, WearableAdded, WearableRevoked
from lianzhen_runtime.errors import LianzhenError

from . import broker
from .ingress import keep
from .sheets import WearableLogin
from .watch import end_removed

_PASSWORD_BYTES: Final = 15
MAX_NAME: Final = 60
MAX_NOTE: Final = 500


class NoSuchDevice(LianzhenError):
    """Nobody let a device with that id in."""

    code = "device-unknown"
    http_status = 404


class DeviceRevoked(LianzhenError):
    """It is shut out already."""

    code = "device-revoked"
    http_status = 409


class NoSuchAlarm(LianzhenError):
    """It was never raised here."""

    code = "alarm-unknown"
    http_status = 404


class AlarmHeard(LianzhenError):
    """Somebody was faster."""

    code = "alarm-acknowledged"
    http_status = 409


class BadInput(LianzhenError):
    """What was typed in cannot be; the sentence says what can."""

    code = "input-invalid"
    http_status = 422


class Credentials(NamedTuple):
    """What a device needs, shown once: the password is kept nowhere."""

    device_id: str
    password: str


def add_device(book: Book, name: str, actor: Actor) -> Credentials:
    """Let a device in under ``name``; after the commit the listener must ``reload``."""
    if not 0 < len(name.strip()) <= MAX_NAME:
        raise BadInput(f"a device's name has 1 to {MAX_NAME} letters")
    device = book.new_id()
    # Base 32: it may have to be typed into a device that has ten keys.
    password = base64.b32encode(secrets.token_bytes(_PASSWORD_BYTES)).decode().lower()
    hashed = broker.hashed(password, secrets.token_bytes(broker.SALT_BYTES))
    body = WearableAdded(device_id=device, name=name.strip(), by=_by(actor))
    book.write(vitals.STREAM, body)
    book.put(WearableLogin(id=device, hashed=hashed))
    book.audit(actor.id, "admit", f"wearable/{device}")
    return Credentials(device, password)


def revoke_device(book: Book, device: str, actor: Actor) -> None:
    """Shut a device out; after the commit the listener must ``reload``."""
    found = book.get(Wearable, device)
    if found is None:
        raise NoSuchDevice("there is no such device")
    if found.revoked_ms:
        raise DeviceRevoked("this device is shut out already; add it anew to use it again")
    book.write(vitals.STREAM, WearableRevoked(device_id=device, by=_by(actor)))
    book.delete(WearableLogin, device)
    book.audit(actor.id, "revoke", f"wearable/{device}")
    end_removed(book, device)


def acknowledge(book: Book, alarm_id: str, actor: Actor, note: str = "") -> None:
    """``actor`` has heard the alarm. AlarmHeard names who was faster."""
    alarm = book.get(Alarm, alarm_id)
    if alarm is None:
        raise NoSuchAlarm("there is no such alarm")
    if len(note) > MAX_NOTE:
        raise BadInput(f"a note has at most {MAX_NOTE} letters")
    if alarm.acknowledged_by is not None:
        raise AlarmHeard(f"{alarm.acknowledged_by.name} has acknowledged it already")
    if alarm.ended_ms:
        raise AlarmHeard("a newer alarm has replaced it: acknowledge that one")
    body = AlarmAcknowledged(alarm_id=alarm_id, by=_by(actor), note=note, at_ms=book.now_ms)
    book.write(alarms.STREAM, body)
    book.audit(actor.id, "decide", f"alarm/{alarm_id}")


def enter_vitals(
    book: Book, patient_id: str, measurements: tuple[Measurement, ...], actor: Actor
) -> str:
    """What a person measured, just now; the reading's id."""
    known_patient(book, patient_id)
    if not measurements:
        raise BadInput("give at least one value")
    now = book.now_ms
    body = VitalsReading(
        patient_id=patient_id,
        measurements=measurements,
        device_ms=now,
        sent_ms=now,
        received_ms=now,
        corrected_ms=now,
        entered_by=_by(actor),
    )
    book.audit(actor.id, "create", f"patient/{patient_id}")
    return keep(book, body)


def _by(actor: Actor) -> By:
    return By(account=actor.id, name=actor.name)
