"""The MQTT tree, and who may do what in it (docs/protocol.md, 2).

::

    lz/1/<node>/up/hello            written by the box only
    lz/1/<node>/up/ack              acknowledges down streams
    lz/1/<node>/up/presence         last will
    lz/1/<node>/up/stream/<name>    frames
    lz/1/<node>/down/hello          written by the hub only: welcome, or "say hello"
    lz/1/<node>/down/ack            acknowledges up streams
    lz/1/<node>/down/stream/<name>  frames

The direction stands before everything else, so that the broker's rights are two lines a box
and no topic has two writers.
"""

import enum
import re
from typing import NamedTuple

from .errors import TopicError
from .identity import NodeId, node_id

ROOT = "lz/1"
_STREAM = re.compile(r"[a-z][a-z0-9._-]{0,63}")


class Direction(enum.StrEnum):
    """Who writes below this level."""

    UP = "up"
    DOWN = "down"


class Channel(enum.StrEnum):
    """What a topic carries."""

    HELLO = "hello"
    ACK = "ack"
    PRESENCE = "presence"
    STREAM = "stream"


class Topic(NamedTuple):
    """One topic; ``stream`` is set just when ``channel`` is STREAM."""

    node: NodeId
    direction: Direction
    channel: Channel
    stream: str | None = None

    def __str__(self) -> str:
        tail = f"/{self.stream}" if self.channel is Channel.STREAM else ""
        return f"{ROOT}/{self.node}/{self.direction}/{self.channel}{tail}"


def stream_name(text: str) -> str:
    """``text`` as a stream's name: a lower-case letter, then up to 63 of ``a-z 0-9 . _ -``."""
    if not _STREAM.fullmatch(text):
        raise TopicError(f"not a stream name: {text[:80]!r}")
    return text


def parse(topic: str) -> Topic:
    """A topic string taken apart; TopicError for anything outside the tree."""
    parts = topic.split("/")
    try:
        if parts[:2] != ROOT.split("/"):
            raise TopicError(f"outside {ROOT}/")
        node, direction, channel = node_id(parts[2]), Direction(parts[3]), Channel(parts[4])
        if channel is Channel.STREAM:
            # A broker that keeps topics as AMQP routing keys turns a name's full stops into levels.
            return Topic(node, direction, channel, stream_name(".".join(parts[5:])))
        if parts[5:] or (channel is Channel.PRESENCE and direction is Direction.DOWN):
            raise TopicError("no such topic")
    except (ValueError, IndexError) as error:
        raise TopicError(f"not a topic of {ROOT}: {topic[:120]!r} ({error})") from error
    return Topic(node, direction, channel)


def subscription(direction: Direction, node: NodeId | None = None) -> str:
    """The filter for everything one direction carries: of one box, or (hub) of all."""
    return f"{ROOT}/{node or '+'}/{direction}/#"


ACL_PATTERNS = (
    ("write", f"{ROOT}/%u/up/#"),
    ("read", f"{ROOT}/%u/down/#"),
)
"""A box's rights; ``%u`` is its certificate's CN. mosquitto.conf(5), "pattern"."""

ACL_HUB = (
    ("read", f"{ROOT}/+/up/#"),
    ("write", f"{ROOT}/+/down/#"),
    ("read", "$SYS/#"),
)
"""The hub's rights: it reads what boxes write and the broker's own counters, no more."""
