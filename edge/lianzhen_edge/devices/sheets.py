"""What the box alone knows of wearables: passwords' hashes, clocks, and messages of no use."""

from typing import ClassVar, Final

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


def seen(state: WearableState, now_ms: int, *, refused: int = 0, stored: int = 0) -> WearableState:
    """One more message came."""
    return msgspec.structs.replace(
        state, seen_ms=now_ms, refused=state.refused + refused, stored=state.stored + stored
    )
