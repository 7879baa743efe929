"""Wearables: the message that a device publishes, and whose clock is believed (docs/vitals.md).

A device says by its own clock when it measured and when it sends. The box knows when it received.
A steady difference is the clock's fault and is taken out; a message that comes late is no reason
to move the clock, and a clock that was never set is none to lose a reading.
"""

import re
from statistics import median_low
from typing import Annotated, ClassVar, Final, NamedTuple

import msgspec

from .errors import ReadingError
from .people import By
from .records import Body
from .sheets import Index, Sheet, Sheets
from .vitals import Absent, ClockMark, Measurement, Parameter, Quality, coded, failed, measured

MAX_MESSAGE_BYTES: Final = 16 << 10
MAX_AGE_MS: Final = 7 * 86_400_000
"""A device may keep what it measured for a week before it finds the box again."""

_MAX_DEVICE_MS: Final = (1 << 48) - 1  # what a UUIDv7 holds: the year 10889
_DeviceMs = Annotated[int, msgspec.Meta(ge=0, le=_MAX_DEVICE_MS)]
_MessageId = Annotated[str, msgspec.Meta(pattern=r"\A[0-9A-Za-z._-]{1,64}\Z")]


class Observed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One parameter of a message: value with unit, or code, or absent."""

    value: float | None = None
    unit: str = ""
    code: str = ""
    absent: Absent | None = None
    quality: Quality = Quality.GOOD


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a device publishes on ``devices/<id>/vitals``, as JSON.

    ``id`` is the device's own and stays the same when it sends again; times are milliseconds
    since 1970 by its clock: when it measured, and when it sends (this try, not the first).
    """

    id: _MessageId
    measured_ms: _DeviceMs
    sent_ms: _DeviceMs
    values: Annotated[dict[Parameter, Observed], msgspec.Meta(min_length=1)]


class Receipt(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the box publishes on ``devices/<id>/receipts`` after its commit: forget the message.

    ``stored`` is the reading's id; "" if it was refused, for ``code`` and ``reason``, for good.
    With ``id`` "" it names no message: nothing is forgotten, and ``reason`` says what is wrong.
    """

    id: str
    stored: str = ""
    code: str = ""
    reason: str = ""


class Parsed(NamedTuple):
    """A message that can be used; ``doubts`` are the sentences on values that cannot be."""

    message: Message
    measurements: tuple[Measurement, ...]
    doubts: tuple[str, ...]


_messages = msgspec.json.Decoder(Message)
_ids = re.compile(rb'"id"\s*:\s*"([0-9A-Za-z._-]{1,64})"')


def message_id(payload: bytes) -> str:
    """The id of a message that may be of no other use, so that it can be refused by name."""
    found = _ids.search(payload[:MAX_MESSAGE_BYTES])
    return found[1].decode() if found else ""


def parse(payload: bytes) -> Parsed:
    """A message from a device. ReadingError says what it should have sent.

    A value that cannot be makes its own parameter absent; the others of the message stay.
    """
    if len(payload) > MAX_MESSAGE_BYTES:
        raise ReadingError(f"{len(payload)} bytes; at most {MAX_MESSAGE_BYTES}")
    try:
        message = _messages.decode(payload)
    except (ValueError, RecursionError) as error:
        raise ReadingError(str(error)) from error
    found, doubts = [], []
    for parameter, observed in message.values.items():
        try:
            found.append(_measurement(parameter, observed))
        except ReadingError as error:
            if error.code != "implausible":
                raise
            found.append(failed(parameter))
            doubts.append(str(error))
    if doubt := _inverted(found):
        pressures = {Parameter.SYSTOLIC, Parameter.DIASTOLIC}
        found = [failed(each.parameter) if each.parameter in pressures else each for each in found]
        doubts.append(doubt)
    return Parsed(message, tuple(found), tuple(doubts))


def _measurement(parameter: Parameter, observed: Observed) -> Measurement:
    given = (observed.value is not None, bool(observed.code), observed.absent is not None)
    if sum(given) != 1:
        raise ReadingError(f"{parameter}: give one of value (with unit), code and absent")
    if observed.absent is not None:
        return failed(parameter, observed.absent)
    if observed.value is None:
        return coded(parameter, observed.code)
    return measured(parameter, observed.value, observed.unit, observed.quality)


def _inverted(found: list[Measurement]) -> str:
    values = {each.parameter: each.value for each in found if each.value is not None}
    systolic, diastolic = values.get(Parameter.SYSTOLIC), values.get(Parameter.DIASTOLIC)
    if systolic is None or diastolic is None or diastolic < systolic:
        return ""
    return f"diastolic {diastolic:g} is not below systolic {systolic:g}"


# --- the device's clock ---

SAMPLES: Final = 15
STEADY_MS: Final = 30_000
"""Offsets within this of the median are one clock and a network that varies."""

_NEW_CLOCK: Final = 3
"""So many messages in a row that agree with each other and not with the past: it was moved."""

HELD_MS: Final = 100
"""While the offset in use is within this of the median it is not changed: a network that varies by
milliseconds would otherwise tear a stream's even steps apart.
"""

_GOOD_MS: Final = 2_000
_UNSET_BEFORE_MS: Final = 1_577_836_800_000  # 2020: older than every device that is sold


class DeviceClock(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is known of one device's clock: received - sent of its latest messages, in ms."""

    samples: tuple[int, ...] = ()
    strangers: tuple[int, ...] = ()
    """Offsets since the last sample that do not fit the samples."""
    held: int | None = None
    """The offset that was last used."""

    @property
    def offset_ms(self) -> int:
        """What is added to the device's times; 0 before the first message."""
        middle = median_low(self.samples) if self.samples else 0
        near = self.held is not None and abs(self.held - middle) <= HELD_MS
        return self.held if self.held is not None and near else middle


class Corrected(NamedTuple):
    """A device's time by the box's clock, and how it was found."""

    at_ms: int
    offset_ms: int
    mark: ClockMark


def correct(
    clock: DeviceClock, message: Message, received_ms: int
) -> tuple[DeviceClock, Corrected]:
    """The clock after one more message, and the message's measuring time by the box's clock.

    Never in the future and never more than ``MAX_AGE_MS`` ago; ReadingError where the device's
    own two times say so, since then the clock was moved between measuring and sending.
    """
    age = message.sent_ms - message.measured_ms
    if age < 0 or age > MAX_AGE_MS:
        raise ReadingError(
            f"measured {-age if age < 0 else age} ms {'after' if age < 0 else 'before'} it was "
            "sent: the device's clock was moved in between, so nobody knows when",
            code="clock-moved",
        )
    offset = received_ms - message.sent_ms
    after, mark = _learn(clock, offset)
    if message.sent_ms < _UNSET_BEFORE_MS and mark in (ClockMark.GOOD, ClockMark.OFFSET):
        mark = ClockMark.UNSET
    after = msgspec.structs.replace(after, held=clock.held)
    used = offset if mark is ClockMark.JUMPED else after.offset_ms
    used = min(used, received_ms - message.measured_ms)
    at_ms = max(message.measured_ms + used, received_ms - MAX_AGE_MS, 0)
    return msgspec.structs.replace(after, held=used), Corrected(at_ms, used, mark)


def _learn(clock: DeviceClock, offset: int) -> tuple[DeviceClock, ClockMark]:
    known = clock.offset_ms
    if not clock.samples or abs(offset - known) <= STEADY_MS:
        after = DeviceClock((*clock.samples, offset)[-SAMPLES:])
        good = abs(after.offset_ms) <= _GOOD_MS
        return after, ClockMark.GOOD if good else ClockMark.OFFSET
    # Nothing arrives before it is sent: a smaller offset is a clock that was moved ahead. A larger
    # one may be a message that waited somewhere, until others say the same.
    strangers = (*clock.strangers, offset)[-_NEW_CLOCK:]
    agree = max(strangers) - min(strangers) <= STEADY_MS
    if offset < known or (agree and len(strangers) == _NEW_CLOCK):
        return DeviceClock((offset,)), ClockMark.JUMPED
    return DeviceClock(clock.samples, strangers), ClockMark.DOUBTFUL


# --- what is known of a device ---


class WearableAdded(Body, frozen=True, kw_only=True):
    """A named person let a device in; its password stays on the box, and is not in here."""

    device_id: str
    name: str
    by: By


class WearableRevoked(Body, frozen=True, kw_only=True):
    """A named person shut a device out, for good: it is added anew under another id."""

    device_id: str
    by: By


class Wearable(Sheet, frozen=True, kw_only=True):
    """A device that may publish, or might once."""

    SHEET: ClassVar[str] = "wearable"

    id: str
    name: str
    added_by: By
    added_ms: int
    revoked_by: By | None = None
    revoked_ms: int = 0

    def index(self) -> Index:
        """By its id; ``live`` or ``revoked``."""
        return Index(self.id, "", "revoked" if self.revoked_ms else "live", self.added_ms)


def take_added(sheets: Sheets, body: WearableAdded, now_ms: int) -> None:
    """``wearable.added``: the device may publish."""
    sheets.put(Wearable(id=body.device_id, name=body.name, added_by=body.by, added_ms=now_ms))


def take_revoked(sheets: Sheets, body: WearableRevoked, now_ms: int) -> None:
    """``wearable.revoked``: it may not any more. ReadingError if nobody let it in."""
    device = sheets.get(Wearable, body.device_id)
    if device is None:
        raise ReadingError("there is no device with that id", code="device-unknown")
    sheets.put(msgspec.structs.replace(device, revoked_by=body.by, revoked_ms=now_ms))


KINDS: Final[dict[str, dict[int, type[Body]]]] = {
    "wearable.added": {1: WearableAdded},
    "wearable.revoked": {1: WearableRevoked},
}
