"""What the box alone knows of wearables: passwords' hashes, clocks, and messages of no use."""

from typing import ClassVar, Final, NamedTuple

import msgspec

from lianzhen_protocol.sheets import Index, Sheet
from lianzhen_protocol.vitals import ClockMark
from lianzhen_protocol.wearables import DeviceClock

KEPT_REFUSALS: Final = 50
"""The newest ones that are kept for each device."""


class WearableLogin(Sheet, frozen=True, kw_only=True):
    """The line of a live device in the broker's password file."""

    SHEET: ClassVar[str] = "wearable-login"

    id: str
    hashed: str

    def index(self) -> Index:
        """By the device."""
        return Index(self.id)


class WearableState(Sheet, frozen=True, kw_only=True):
    """How a device is doing; times by the box's clock."""

    SHEET: ClassVar[str] = "wearable-state"

    id: str
    clock: DeviceClock = DeviceClock()
    mark: ClockMark | None = None
    seen_ms: int = 0
    """Its last message, whatever it was worth."""
    value_ms: int = 0
    """Its last message with a value in it."""
    measured_ms: int = 0
    """When its last reading was measured, by its own clock."""
    stored: int = 0
    refused: int = 0

    def index(self) -> Index:
        """By the device and when it was seen."""
        return Index(self.id, at_ms=self.seen_ms)


class Refusal(Sheet, frozen=True, kw_only=True):
    """A message, or a part of one, that could not be used; kept for a person to look at."""

    SHEET: ClassVar[str] = "refusal"

    id: str
    device_id: str
    at_ms: int
    code: str
    reason: str
    payload: str
    """Its beginning, as text."""

    def index(self) -> Index:
        """By device and time."""
        return Index(self.id, self.device_id, "", self.at_ms)


class Told(NamedTuple):
    """A message that was answered: its id, when it was measured, and the offset that was used."""

    message_id: str
    device_ms: int
    offset_ms: int


class Gathering(Sheet, frozen=True, kw_only=True):
    """A device's minute that is not over: its readings are sheets, and no record yet."""

    SHEET: ClassVar[str] = "gathering"

    id: str
    """The device's."""
    patient_id: str
    """Who wears it, "" for nobody known."""
    clock: ClockMark
    opened_ms: int
    heard_ms: int
    told: tuple[Told, ...]

    def index(self) -> Index:
        """By the device and since when."""
        return Index(self.id, at_ms=self.opened_ms)

    def span_ms(self, device_ms: int) -> int:
        """From its first reading to its last, with one more, by the device's clock."""
        times = [device_ms, *(each.device_ms for each in self.told)]
        return max(times) - min(times)


class Answered(Sheet, frozen=True, kw_only=True):
    """The messages of a minute that is a record: sent again, they are known by this."""

    SHEET: ClassVar[str] = "answered"

    id: str
    device_id: str
    first: Told
    """The earliest; times and offsets of the others are less its."""
    told: tuple[Told, ...]
    kept_ms: int

    def index(self) -> Index:
        """By the device and its own time."""
        return Index(self.id, self.device_id, at_ms=self.first.device_ms)


def seen(state: WearableState, now_ms: int, *, refused: int = 0, stored: int = 0) -> WearableState:
    """One more message came."""
    return msgspec.structs.replace(
        state, seen_ms=now_ms, refused=state.refused + refused, stored=state.stored + stored
    )
