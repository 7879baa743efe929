"""Hello, welcome, acknowledgement, presence (docs/protocol.md, 3 and 8).

Every connect begins with a hello, for each of the box's two sessions: which epoch, where each
stream stands, what came down. The hub answers with its own marks, and only then do frames flow.
What the hub says of its marks is signed, since the box deletes on the strength of it.
"""

import enum
from collections.abc import Iterable
from typing import Annotated, NamedTuple

import msgspec

from .errors import MessageError
from .identity import Epoch
from .lanes import Group
from .marks import Position, Seq, StreamMark, StreamName

PROTOCOLS = (1,)
"""Versions of this wire that this release speaks, best last."""

MAX_HELLO_STREAMS = 1000
"""Streams named in a hello; the others join with their first frame."""

Bytes16 = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
Line = Annotated[str, msgspec.Meta(max_length=500, pattern=r"\A[^\x00-\x1f\x7f]*\Z")]
"""Text without control characters: PostgreSQL keeps no NUL, and a screen obeys no others."""


class Refusal(enum.StrEnum):
    """Why a hello cannot be answered: ``Refused.code``."""

    PROTOCOL = "protocol"
    """No version of the wire in common: one side must be updated."""
    REVOKED = "revoked"
    """The node was taken out of service."""
    STALE_KEY = "stale-key"
    """A newer certificate of this box is in use: its card was copied or restored."""


class StreamClaim(msgspec.Struct, frozen=True, array_like=True):
    """What the writer says of one stream with records that are not yet safe."""

    stream: StreamName
    last: Position
    safe: Seq


class DownMark(msgspec.Struct, frozen=True, array_like=True):
    """How far the box has committed one down stream of the hub's ``epoch``."""

    epoch: Bytes16
    stream: StreamName
    committed: Position


class Parentage(msgspec.Struct, frozen=True, array_like=True):
    """Where a forked epoch comes from, and why."""

    parent: Bytes16
    reason: Line


class Hello(msgspec.Struct, frozen=True, kw_only=True, tag="hello"):
    """Box to hub, first message of a session. ``session`` is 16 random bytes, one a hello."""

    session: Bytes16
    group: Group
    protocols: Annotated[tuple[int, ...], msgspec.Meta(max_length=100)]
    epoch: Bytes16
    parentage: Parentage | None
    instance: Bytes16
    """16 random bytes made at each start of the program: two at a time are two boxes."""
    serial: Line
    """Of the certificate in use, hexadecimal; its first use retires the one before."""
    software: Line
    now_ms: int
    streams: Annotated[tuple[StreamClaim, ...], msgspec.Meta(max_length=MAX_HELLO_STREAMS)]
    down: tuple[DownMark, ...]


class SayHello(msgspec.Struct, frozen=True, kw_only=True, tag="say-hello"):
    """Hub to box: I do not know this session (I was restarted); begin again."""


class Welcome(msgspec.Struct, frozen=True, kw_only=True, tag="welcome", omit_defaults=True):
    """Hub to box, signed: where each named stream goes on. ``credit`` is in bytes."""

    session: Bytes16
    protocol: int
    now_ms: int
    credit: int
    marks: tuple[StreamMark, ...]
    frames: int = 1
    """The highest version of a frame that the hub reads; one that says nothing reads the first."""


class Ack(msgspec.Struct, frozen=True, kw_only=True, tag="ack"):
    """Receiver to writer: cumulative marks. Signed by the hub; from the box it is plain."""

    session: Bytes16
    epoch: Bytes16
    now_ms: int
    credit: int
    marks: tuple[StreamMark, ...]


class Presence(msgspec.Struct, frozen=True, kw_only=True, tag="presence"):
    """The box's last will and its good-bye; counts only for the session that it names."""

    instance: Bytes16
    group: Group


class Refused(msgspec.Struct, frozen=True, kw_only=True, tag="refused"):
    """Hub to box: this hello cannot be answered; ``reason`` is a sentence for the screen."""

    session: Bytes16
    code: str
    reason: str


class Signed(msgspec.Struct, frozen=True, kw_only=True, tag="signed"):
    """A message under the hub's signing key; ``certificate`` (DER) comes with a welcome."""

    message: bytes
    signature: bytes
    certificate: bytes = b""


Message = Hello | SayHello | Welcome | Ack | Presence | Refused | Signed

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


def encode(message: Message) -> bytes:
    """A message's bytes."""
    return _encoder.encode(message)


def decode(wire: bytes) -> Message:
    """A message read back; MessageError for anything else. Unknown fields are let through."""
    try:
        return _decoder.decode(wire)
    except (ValueError, RecursionError) as error:
        raise MessageError(f"not a message of this protocol: {error}") from error


def agree(offered: Iterable[int]) -> int | None:
    """The best protocol version that both sides speak, or None."""
    return max(set(offered) & set(PROTOCOLS), default=None)


class Known(NamedTuple):
    """What the hub remembers of a node: its epochs, and the programs that others succeeded."""

    epochs: frozenset[Epoch]
    succeeded: frozenset[bytes]
    """Instances that were live when another one said hello in their place. A restarted program
    has a new instance, so an old one that speaks again is a second box."""


class Observation(NamedTuple):
    """Something about a hello that an admin should know."""

    code: str
    detail: str


def observe(hello: Hello, known: Known) -> list[Observation]:
    """What is remarkable about a hello: a fork, a journal that was replaced, a twin."""
    found = []
    if hello.epoch not in known.epochs and hello.parentage is not None:
        # Named with its own epoch: two forks of one image are two, and are told as two.
        epochs = f"epoch {hello.epoch.hex()} of parent epoch {hello.parentage.parent.hex()}"
        found.append(Observation("forked", f"{hello.parentage.reason}; {epochs}"))
    elif hello.epoch not in known.epochs and known.epochs:
        found.append(Observation("journal-replaced", "a new journal that names no parent"))
    if hello.instance in known.succeeded:
        found.append(Observation("second-instance", "another program is live under this identity"))
    return found
