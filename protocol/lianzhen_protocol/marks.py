"""How far a stream has come, on both sides (docs/protocol.md, 4 and 8).

*Committed*: in the receiver's database; stop sending. *Safe*: covered by the receiver's replica
or backup; only then may the writer delete. Each position carries the chain hash there, so that
every acknowledgement is also a comparison of the two histories.
"""

import enum
from collections.abc import Callable
from typing import Annotated, NamedTuple

import msgspec

from .chain import HASH_BYTES

StreamName = Annotated[str, msgspec.Meta(pattern=r"\A[a-z][a-z0-9._-]{0,63}\Z")]
Seq = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]


class Position(msgspec.Struct, frozen=True, array_like=True):
    """A place in a stream: the ``seq``-th record and the chain hash after it."""

    seq: Seq
    hash: Annotated[bytes, msgspec.Meta(min_length=HASH_BYTES, max_length=HASH_BYTES)]


class StreamMark(msgspec.Struct, frozen=True, array_like=True):
    """What a receiver says of one stream; ``gap`` asks for everything after ``committed``."""

    stream: StreamName
    committed: Position
    safe: Seq
    gap: bool = False


class ForkReason(enum.StrEnum):
    """Why a writer left its epoch."""

    RECEIVER_AHEAD = "receiver-ahead"
    """The receiver has records that this writer never wrote: a restored card."""

    HISTORIES_DIFFER = "histories-differ"
    """Same numbers, other records: a cloned card, or two restored ones."""

    RECEIVER_BEHIND_SAFE = "receiver-behind-safe"
    """The receiver lost what it had called safe, and the writer has deleted it."""

    DAMAGED_RECORD = "damaged-record"
    """The writer's disk lost a record that it had promised; the others go on without it."""

    FOREIGN_HARDWARE = "foreign-hardware"
    """The journal wakes up in another machine than the one that wrote it."""


class Resume(NamedTuple):
    """The histories agree; go on after ``committed``."""

    committed: int


class Diverged(NamedTuple):
    """The histories do not agree; nothing of this epoch may be sent any more."""

    reason: ForkReason


HashAt = Callable[[int], bytes | None]
"""Chain hash after record n, or None where the writer no longer (or never) had it."""


def reconcile(last: int, safe: int, theirs: Position, hash_at: HashAt) -> Resume | Diverged:
    """Compare a writer's stream (``last`` written, deleted up to ``safe``) with a receiver's mark.

    Used for the welcome and for every acknowledgement alike: believing a mark without its hash
    is how a restored card loses records.
    """
    if theirs.seq > last:
        return Diverged(ForkReason.RECEIVER_AHEAD)
    if theirs.seq < safe:
        return Diverged(ForkReason.RECEIVER_BEHIND_SAFE)
    if hash_at(theirs.seq) != theirs.hash:
        return Diverged(ForkReason.HISTORIES_DIFFER)
    return Resume(theirs.seq)
