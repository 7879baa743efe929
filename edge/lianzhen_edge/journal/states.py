"""The five states of what a person entrusted to the box, derived from the marks and never kept."""

import enum

import msgspec


class ItemState(enum.StrEnum):
    """How far a record has come; each state includes the ones before it."""

    STORED = "stored"
    """Synced to this disk, which holds the only copy."""
    SENT = "sent"
    """Handed to the line; nothing is known of it yet."""
    COMMITTED = "committed"
    """In the hub's database, by the hub's signed word."""
    SAFE = "safe"
    """Covered by the hub's replica or backup; this disk may forget it."""
    SEEN = "seen"
    """A person at the hub opened it."""


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """One record as its author may ask for it. ``rejected`` is the hub's reason, if it has one."""

    id: str
    stream: str
    seq: int
    state: ItemState
    rejected: str | None = None
    seen_by: str | None = None
    seen_ms: int | None = None


class StreamState(msgspec.Struct, frozen=True, kw_only=True):
    """One stream in numbers of records; ``oldest_ms`` is when the first uncommitted was put."""

    stream: str
    last: int
    committed: int
    safe: int
    oldest_ms: int | None


def state_of(seq: int, *, sent: int, committed: int, safe: int, seen: bool = False) -> ItemState:
    """The state of record ``seq`` of a stream with these marks."""
    if seen:
        return ItemState.SEEN
    if seq <= safe:
        return ItemState.SAFE
    if seq <= committed:
        return ItemState.COMMITTED
    return ItemState.SENT if seq <= sent else ItemState.STORED
