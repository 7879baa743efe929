"""DIMSE messages (PS3.7): the codec of command sets, and the border between an association and the
services on it.

A service is asked for one request at a time, on its association's thread. It yields its responses
as they come, pending ones (FF00, FF01) first. What it does after the final one, an N-EVENT-REPORT
say, is done before the next request is read.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from enum import IntEnum
from typing import Any, Final, NamedTuple, Protocol

MAX_COMMAND_BYTES: Final = 16 << 10
MAX_DATA_BYTES: Final = 1 << 20
"""Of the data set of a request that is no C-STORE."""

RESPONSE: Final = 0x8000
"""Bit of the command field that makes a request's the response's."""
NO_DATA_SET: Final = 0x0101

SUCCESS: Final = 0x0000
CANCEL: Final = 0xFE00
PENDING: Final = frozenset({0xFF00, 0xFF01})
SOP_CLASS_NOT_SUPPORTED: Final = 0x0122
UNRECOGNISED_OPERATION: Final = 0x0211
PROCESSING_FAILURE: Final = 0x0110

_MAX_COMMENT: Final = 64


class Field(IntEnum):
    """Command fields of requests (PS3.7, E.1)."""

    C_STORE = 0x0001
    C_GET = 0x0010
    C_FIND = 0x0020
    C_MOVE = 0x0021
    C_ECHO = 0x0030
    N_EVENT_REPORT = 0x0100
    N_GET = 0x0110
    N_SET = 0x0120
    N_ACTION = 0x0130
    N_CREATE = 0x0140
    N_DELETE = 0x0150
    C_CANCEL = 0x0FFF


class Tag:
    """Elements of a command set. Plain numbers, as a mapping's keys are of one type."""

    AFFECTED_SOP_CLASS: Final = 0x0002
    REQUESTED_SOP_CLASS: Final = 0x0003
    COMMAND_FIELD: Final = 0x0100
    MESSAGE_ID: Final = 0x0110
    RESPONDED_TO: Final = 0x0120
    MOVE_DESTINATION: Final = 0x0600
    PRIORITY: Final = 0x0700
    DATA_SET_TYPE: Final = 0x0800
    STATUS: Final = 0x0900
    OFFENDING_ELEMENT: Final = 0x0901
    ERROR_COMMENT: Final = 0x0902
    ERROR_ID: Final = 0x0903
    AFFECTED_SOP_INSTANCE: Final = 0x1000
    REQUESTED_SOP_INSTANCE: Final = 0x1001
    EVENT_TYPE: Final = 0x1002
    ATTRIBUTES: Final = 0x1005
    ACTION_TYPE: Final = 0x1008
    REMAINING: Final = 0x1020
    COMPLETED: Final = 0x1021
    FAILED: Final = 0x1022
    WARNING: Final = 0x1023
    MOVE_ORIGINATOR: Final = 0x1030
    MOVE_ORIGINATOR_MESSAGE: Final = 0x1031


_LENGTH: Final = 0x0000
_STRINGS: Final = {
    Tag.AFFECTED_SOP_CLASS: b"\0",
    Tag.REQUESTED_SOP_CLASS: b"\0",
    Tag.AFFECTED_SOP_INSTANCE: b"\0",
    Tag.REQUESTED_SOP_INSTANCE: b"\0",
    Tag.MOVE_DESTINATION: b" ",
    Tag.ERROR_COMMENT: b" ",
    Tag.MOVE_ORIGINATOR: b" ",
}
"""UI, AE and LO, with what makes them even."""
_TAGS: Final = frozenset({Tag.OFFENDING_ELEMENT, Tag.ATTRIBUTES})
_KNOWN: Final = frozenset(value for value in vars(Tag).values() if isinstance(value, int))
_NUMBERS: Final = _KNOWN - _STRINGS.keys() - _TAGS

_HEAD = struct.Struct("<HHL")
_US = struct.Struct("<H")
_UL = struct.Struct("<L")


class CommandBroken(ValueError):
    """Not a command set; the text says why."""


def decode(content: bytes) -> dict[int, Any]:
    """The elements of a command set by tag: int, str, or tuple of tags; CommandBroken if it is
    none. Elements that nobody reads are stepped over, and so are empty ones.
    """
    found: dict[int, Any] = {}
    at, end = 0, len(content)
    while at < end:
        if at + _HEAD.size > end:
            raise CommandBroken(f"the command set was cut off at byte {end}")
        group, tag, length = _HEAD.unpack_from(content, at)
        at += _HEAD.size
        if group != 0:
            raise CommandBroken(f"an element of group {group:04X} in the command set")
        if length > end - at:
            raise CommandBroken(f"element {tag:04X} is longer than the command set")
        if tag in found:
            raise CommandBroken(f"element {tag:04X} comes twice")
        if length and tag in _KNOWN:
            found[tag] = _value(tag, content[at : at + length])
        at += length
    for tag in (Tag.COMMAND_FIELD, Tag.DATA_SET_TYPE):
        if tag not in found:
            raise CommandBroken(f"the command set has no element {tag:04X}")
    return found


def _value(tag: int, content: bytes) -> Any:
    if tag in _NUMBERS:
        if len(content) != _US.size:
            raise CommandBroken(f"element {tag:04X} is no number of 2 bytes")
        return _US.unpack(content)[0]
    if tag in _TAGS:
        if len(content) % 4:
            raise CommandBroken(f"element {tag:04X} is no list of tags")
        pairs = struct.iter_unpack("<HH", content)
        return tuple(group << 16 | number for group, number in pairs)
    return content.decode("latin-1").strip("\0 ")


def encode(elements: Mapping[int, Any]) -> bytes:
    """A command set, its group length first; ValueError for what does not belong in one."""
    parts: list[bytes] = []
    for tag in sorted(elements):
        content = _content(tag, elements[tag])
        parts += (_HEAD.pack(0, tag, len(content)), content)
    body = b"".join(parts)
    return _HEAD.pack(0, _LENGTH, _UL.size) + _UL.pack(len(body)) + body


def _content(tag: int, value: Any) -> bytes:
    if tag in _NUMBERS:
        if not isinstance(value, int) or not 0 <= value <= 0xFFFF:
            raise ValueError(f"element {tag:04X} is a number of 2 bytes")
        return _US.pack(value)
    if tag in _TAGS:
        return b"".join(struct.pack("<HH", each >> 16, each & 0xFFFF) for each in value)
    padding = _STRINGS.get(tag)
    if padding is None or not isinstance(value, str):
        raise ValueError(f"element {tag:04X} is none of a command set, or its value is no text")
    content = value.encode("latin-1", "replace")
    return content + padding * (len(content) % 2)


class Context(NamedTuple):
    """A presentation context that was agreed on."""

    id: int
    abstract_syntax: str
    transfer_syntax: str
    we_may_call: bool = False
    """The caller said that it is an SCP here (role selection): a C-GET's images go this way."""


class Peer(NamedTuple):
    """Who has called, and whom."""

    title: str
    address: str
    called: str = ""


class Request(NamedTuple):
    """One DIMSE request, whole."""

    context: Context
    command: Mapping[int, Any]
    data: bytes = b""
    """The data set as it was sent, in the context's transfer syntax; empty if there is none."""

    @property
    def field(self) -> int:
        """Command field."""
        return int(self.command[Tag.COMMAND_FIELD])

    @property
    def message_id(self) -> int:
        """Message ID; 0 if it has none."""
        return int(self.command.get(Tag.MESSAGE_ID, 0))


class Response(NamedTuple):
    """What is sent back, or comes back."""

    status: int
    elements: Mapping[int, Any] = {}
    """Further elements of the command set; they go before what is said by itself (`reply`)."""
    data: bytes = b""
    """In the transfer syntax of the request's context."""


class Outgoing(NamedTuple):
    """A request of our own on an association that we did not open. The message ID is given, and
    the data set type follows from the data.
    """

    context: Context
    command: Mapping[int, Any]
    data: bytes = b""


class Refusal(Exception):
    """Why a request is not answered as was asked: DICOM status, and an Error Comment that its
    sender may read.
    """

    def __init__(
        self, status: int, comment: str, elements: Mapping[int, Any] | None = None
    ) -> None:
        super().__init__(comment)
        self.status, self.comment = status, comment[:_MAX_COMMENT]
        self.elements = elements or {}

    def response(self) -> Response:
        """The same as a final response."""
        return Response(self.status, {Tag.ERROR_COMMENT: self.comment, **self.elements})


class LinkGone(ConnectionError):
    """The association is over. A service lets it pass."""


class Link(Protocol):
    """The association as a service sees it. On the association's thread only."""

    @property
    def peer(self) -> Peer:
        """Who has called."""

    @property
    def contexts(self) -> Sequence[Context]:
        """All that were agreed on."""

    def cancelled(self, message_id: int) -> bool:
        """Whether a C-CANCEL for this request has come."""

    def quiet(self, seconds: float) -> bool:
        """Wait until the caller says something, or so long; whether it has said nothing."""

    def call(self, request: Outgoing) -> Response:
        """Send a request and wait for its answer. LinkGone if none can come any more."""


class Service(Protocol):
    """What answers requests of some SOP classes, other than Verification and Storage. One object
    for all associations: it holds no state of one.
    """

    @property
    def sop_classes(self) -> Sequence[str]:
        """Abstract syntaxes that are accepted for it."""

    def answer(self, request: Request, link: Link) -> Iterator[Response]:
        """The responses, the final one last; or Refusal, which becomes the final one."""


def reply(command: Mapping[int, Any], response: Response) -> bytes:
    """The command set of a response to the request of ``command``, encoded.

    It names the request's SOP class and instance, whether the request said affected or requested.
    """
    said = {
        Tag.AFFECTED_SOP_CLASS: command.get(
            Tag.AFFECTED_SOP_CLASS, command.get(Tag.REQUESTED_SOP_CLASS)
        ),
        Tag.AFFECTED_SOP_INSTANCE: command.get(
            Tag.AFFECTED_SOP_INSTANCE, command.get(Tag.REQUESTED_SOP_INSTANCE)
        ),
    }
    return encode(
        {tag: value for tag, value in said.items() if value is not None}
        | dict(response.elements)
        | {
            Tag.COMMAND_FIELD: command[Tag.COMMAND_FIELD] | RESPONSE,
            Tag.RESPONDED_TO: command.get(Tag.MESSAGE_ID, 0),
            Tag.DATA_SET_TYPE: 0x0001 if response.data else NO_DATA_SET,
            Tag.STATUS: response.status,
        }
    )


def call(request: Outgoing, message_id: int) -> bytes:
    """The command set of a request of our own, encoded."""
    return encode(
        dict(request.command)
        | {
            Tag.MESSAGE_ID: message_id,
            Tag.DATA_SET_TYPE: 0x0001 if request.data else NO_DATA_SET,
        }
    )
