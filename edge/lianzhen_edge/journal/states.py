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
    """One stream in numbers of records, all kept as they change and none of them counted.

    ``waiting_bytes``: what of the sealed journal the hub has not committed, so that this disk is
    its only place. ``oldest_ms``: when the first of it was put. ``committed_ms``: when the hub's
    signed word last moved the mark, by this box's clock.
    """

    stream: str
    last: int
    committed: int
    safe: int
    oldest_ms: int | None
    waiting_bytes: int = 0
    committed_ms: int | None = None
    seen: int = 0
    rejected: int = 0


def state_of(seq: int, *, sent: int, committed: int, safe: int, seen: bool = False) -> ItemState:
    """The state of record ``seq`` of a stream with these marks.

    Each state includes those before it: that somebody saw a record makes it neither committed nor
    safe. The hub's signed mark does, and a hub that was restored may have lost it again.
    """
    if seq <= safe:
        return ItemState.SEEN if seen else ItemState.SAFE
    if seq <= committed:
        return ItemState.COMMITTED
    return ItemState.SENT if seq <= sent else ItemState.STORED
