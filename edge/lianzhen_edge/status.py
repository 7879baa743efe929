"""What the box says of itself, to people and to probes."""

import msgspec

from .journal.states import StreamState
from .storage import StorageState
from .sync import Concern, LaneState
from .uplink.link import LinkStatus


class BoxStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that ``lianzhen-edge status`` shows."""

    state: str
    sentence: str
    version: str
    node: str | None
    clinic: str | None
    now_ms: int
    clock_offset_ms: int
    certificate_ends_ms: int | None
    links: list[LinkStatus]
    streams: list[StreamState]
    held: int
    lanes: list[LaneState]
    concerns: list[Concern]
    storage: StorageState | None
    browser_fingerprint: str
    """SHA-256 of the authority that a PC installs from the setup page."""


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """What a probe compares: identity and version, not just that something answers."""

    ok: bool
    program: str
    version: str
    node: str | None
    state: str
