"""PDUs of the DICOM upper layer (PS3.8, 9.3) as an acceptor meets them: a pure codec.

pynetdicom has one too, and the tests hold ours against it; importing it costs 65 MB and a second,
which is more than all that the receiving process may have.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from enum import IntEnum
from typing import Final, NamedTuple

MAX_ASSOCIATE_BYTES: Final = 256 << 10
"""128 contexts with 30 transfer syntaxes each; who sends more is no modality."""
APPLICATION_CONTEXT: Final = "1.2.840.10008.3.1.1.1"

HEAD = struct.Struct(">BxL")
"""Type and length of what follows."""
PDV_HEAD = struct.Struct(">LBB")
"""Length of what follows, presentation context, control."""
COMMAND, LAST = 1, 2
"""Bits of a PDV's control (PS3.8, E.2)."""

_ASSOCIATE = struct.Struct(">H2x16s16s32x")
_ITEM = struct.Struct(">BxH")
_APPLICATION, _PROPOSED, _ANSWERED, _ABSTRACT, _TRANSFER = 0x10, 0x20, 0x21, 0x30, 0x40
_USER, _MAX_LENGTH, _CLASS, _WINDOW, _ROLE, _VERSION = 0x50, 0x51, 0x52, 0x53, 0x54, 0x55
_MIN_PDU: Final = 128
"""Less would hold no answer; the smallest that modalities were seen to ask for is 4096."""


class Kind(IntEnum):
    """PDU types."""

    ASSOCIATE_RQ = 1
    ASSOCIATE_AC = 2
    ASSOCIATE_RJ = 3
    DATA = 4
    RELEASE_RQ = 5
    RELEASE_RP = 6
    ABORT = 7


class Reason(IntEnum):
    """Why the upper layer aborts (PS3.8, 9.3.8)."""

    NOT_SPECIFIED = 0
    UNRECOGNIZED_PDU = 1
    UNEXPECTED_PDU = 2
    UNEXPECTED_PARAMETER = 5
    INVALID_PARAMETER = 6


class Result(IntEnum):
    """What becomes of a presentation context (PS3.8, 9.3.3.2)."""

    ACCEPTED = 0
    NO_ABSTRACT_SYNTAX = 3
    NO_TRANSFER_SYNTAX = 4


class Rejection(NamedTuple):
    """Why an association is rejected (PS3.8, 9.3.4)."""

    result: int
    source: int
    reason: int


APPLICATION_CONTEXT_UNKNOWN: Final = Rejection(1, 1, 2)
CALLING_TITLE_UNKNOWN: Final = Rejection(1, 1, 3)
CALLED_TITLE_UNKNOWN: Final = Rejection(1, 1, 7)
VERSION_UNKNOWN: Final = Rejection(1, 2, 2)
TOO_MANY: Final = Rejection(2, 3, 2)


class PduBroken(ValueError):
    """What came is against the protocol: the text says what, ``reason`` says it to the peer."""

    def __init__(self, text: str, reason: Reason = Reason.INVALID_PARAMETER) -> None:
        super().__init__(text)
        self.reason = reason


class Proposed(NamedTuple):
    """A presentation context as the caller asks for it."""

    id: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]


class Answered(NamedTuple):
    """What becomes of it; without acceptance the transfer syntax means nothing."""

    id: int
    result: Result
    transfer_syntax: str


class AssociateRequest(NamedTuple):
    """An A-ASSOCIATE-RQ."""

    version: int
    called: str
    calling: str
    application_context: str
    contexts: tuple[Proposed, ...]
    max_pdu: int
    """Bytes of a P-DATA-TF that the caller takes; 0: any."""
    window: tuple[int, int] | None
    """Asynchronous operations, if it asks for them."""
    roles: Mapping[str, tuple[bool, bool]]
    """(as SCU, as SCP) that the caller wants to be, by SOP class."""
    raw_titles: bytes
    """As they came, since the answer repeats them."""


# -- what comes


def read_associate(body: bytes) -> AssociateRequest:
    """The body of an A-ASSOCIATE-RQ; PduBroken if it is none."""
    if len(body) < _ASSOCIATE.size:
        raise PduBroken("an A-ASSOCIATE-RQ that was cut off")
    version, called, calling = _ASSOCIATE.unpack_from(body)
    application, contexts, user = "", list[Proposed](), _User()
    for kind, content in _items(body, _ASSOCIATE.size):
        if kind == _APPLICATION:
            application = _text(content)
        elif kind == _PROPOSED:
            contexts.append(_proposed(content))
        elif kind == _USER:
            user = _user(content)
    if not contexts:
        raise PduBroken("no presentation context is proposed")
    if len({each.id for each in contexts}) != len(contexts):
        raise PduBroken("two presentation contexts have one id")
    return AssociateRequest(
        version,
        _text(called),
        _text(calling),
        application,
        tuple(contexts),
        user.max_pdu,
        user.window,
        user.roles,
        body[4:36],
    )


def _items(content: bytes, at: int = 0) -> Iterator[tuple[int, bytes]]:
    while at < len(content):
        if at + _ITEM.size > len(content):
            raise PduBroken("an item that was cut off")
        kind, length = _ITEM.unpack_from(content, at)
        at += _ITEM.size
        if length > len(content) - at:
            raise PduBroken("an item is longer than what it lies in")
        yield kind, content[at : at + length]
        at += length


def _proposed(content: bytes) -> Proposed:
    if len(content) < 4 or content[0] % 2 == 0:
        raise PduBroken("a presentation context without an odd id")
    items = list(_items(content, 4))
    abstract = [_text(value) for kind, value in items if kind == _ABSTRACT]
    transfer = tuple(_text(value) for kind, value in items if kind == _TRANSFER)
    if len(abstract) != 1 or not transfer:
        raise PduBroken("a presentation context without its syntaxes")
    return Proposed(content[0], abstract[0], transfer)


class _User(NamedTuple):
    max_pdu: int = 0
    window: tuple[int, int] | None = None
    roles: Mapping[str, tuple[bool, bool]] = {}


def _user(content: bytes) -> _User:
    max_pdu, window, roles = 0, None, dict[str, tuple[bool, bool]]()
    for kind, value in _items(content):
        if kind == _MAX_LENGTH:
            max_pdu = int.from_bytes(_sized(value, 4))
        elif kind == _WINDOW:
            window = struct.unpack(">HH", _sized(value, 4))
        elif kind == _ROLE:
            uid, role = _role(value)
            roles[uid] = role
    if 0 < max_pdu < _MIN_PDU:
        raise PduBroken(f"PDUs of {max_pdu} bytes at most hold no answer")
    return _User(max_pdu, window, roles)


def _sized(value: bytes, size: int) -> bytes:
    if len(value) != size:
        raise PduBroken("an item of user information has another length")
    return value


def _role(value: bytes) -> tuple[str, tuple[bool, bool]]:
    length = int.from_bytes(value[:2])
    _sized(value, 2 + length + 2)
    return _text(value[2 : 2 + length]), (value[-2] == 1, value[-1] == 1)


def _text(value: bytes) -> str:
    return value.decode("latin-1").strip("\0 ")


# -- what goes


def associate_ac(
    request: AssociateRequest,
    answers: Sequence[Answered],
    roles: Mapping[str, tuple[bool, bool]],
    *,
    max_pdu: int,
    implementation: str,
    version: str,
) -> bytes:
    """An A-ASSOCIATE-AC. Whoever asks for asynchronous operations is given one at a time."""
    user = _item(_MAX_LENGTH, struct.pack(">L", max_pdu)) + _item(_CLASS, implementation.encode())
    if request.window is not None:
        user += _item(_WINDOW, struct.pack(">HH", 1, 1))
    for uid, (scu, scp) in roles.items():
        name = uid.encode("latin-1")
        user += _item(_ROLE, struct.pack(">H", len(name)) + name + bytes((scu, scp)))
    user += _item(_VERSION, version.encode())
    content = _ASSOCIATE.pack(1, request.raw_titles[:16], request.raw_titles[16:])
    content += _item(_APPLICATION, APPLICATION_CONTEXT.encode())
    for each in answers:
        syntax = _item(_TRANSFER, each.transfer_syntax.encode("latin-1"))
        content += _item(_ANSWERED, bytes((each.id, 0, each.result, 0)) + syntax)
    return pdu(Kind.ASSOCIATE_AC, content + _item(_USER, user))


def _item(kind: int, content: bytes) -> bytes:
    return _ITEM.pack(kind, len(content)) + content


def pdu(kind: Kind, content: bytes) -> bytes:
    """Any PDU."""
    return HEAD.pack(kind, len(content)) + content


def associate_rj(rejection: Rejection) -> bytes:
    """An A-ASSOCIATE-RJ."""
    return pdu(Kind.ASSOCIATE_RJ, bytes((0, *rejection)))


def release_rp() -> bytes:
    """An A-RELEASE-RP."""
    return pdu(Kind.RELEASE_RP, bytes(4))


def abort(reason: Reason | None) -> bytes:
    """An A-ABORT of the upper layer with its reason, or with None of the service above it."""
    return pdu(Kind.ABORT, bytes((0, 0, 0 if reason is None else 2, reason or 0)))


def data_head(context: int, control: int, size: int) -> bytes:
    """The head of a P-DATA-TF with one PDV of ``size`` bytes."""
    return HEAD.pack(Kind.DATA, size + PDV_HEAD.size) + PDV_HEAD.pack(size + 2, context, control)


def message(context: int, command: bytes, data: bytes, max_pdu: int) -> Iterator[bytes]:
    """The P-DATA-TFs of a DIMSE message; ``max_pdu``: bytes of each at most, without its head."""
    size = max_pdu - PDV_HEAD.size
    for kind, content in ((COMMAND, command), (0, data)):
        for at in range(0, len(content), size):
            piece = content[at : at + size]
            control = kind | (LAST if at + size >= len(content) else 0)
            yield data_head(context, control, len(piece)) + piece
