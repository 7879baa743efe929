"""One association, from its connection to its end, on a thread of its own (PS3.8, 9.2).

We are the acceptor, so of the standard's states there are: waiting for A-ASSOCIATE-RQ (Sta2),
established (Sta6), and waiting for the peer to close (Sta13), the first and the last by the ARTIM
timer. Whatever is against the protocol ends in an A-ABORT that says why.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

from lianzhen_runtime import log

from . import dimse, pdu
from .arrival import IMPLEMENTATION, printable
from .dimse import (
    MAX_COMMAND_BYTES,
    MAX_DATA_BYTES,
    NO_DATA_SET,
    PENDING,
    Context,
    Field,
    LinkGone,
    Outgoing,
    Peer,
    Refusal,
    Request,
    Response,
    Service,
    Tag,
)
from .negotiation import VERIFICATION, agree
from .pdu import AssociateRequest, Kind, PduBroken, Reason, Rejection
from .storage import Incoming, Reception
from .wire import TooSlow, Wire

MAX_PDU_BYTES: Final = 128 << 10
_VERSION: Final = "LIANZHEN"
_SLOWEST_BYTES_PER_S: Final = 4096
_log = log.Log("lianzhen.scp")


class Limits(NamedTuple):
    """Seconds."""

    artim: float = 30.0
    """For an A-ASSOCIATE-RQ to come whole, and for the peer to close."""
    idle: float = 300.0
    """Between two messages."""
    stall: float = 30.0
    """Within a message, without a byte."""
    grace: float = 60.0
    """For a message, beside what it needs at 4 KB/s."""

    @property
    def tick(self) -> float:
        """How often a wait looks at the clock."""
        return min(2.0, *self)


class House(Protocol):
    """What all associations share."""

    @property
    def reception(self) -> Reception:
        """Where images go."""

    @property
    def services(self) -> Mapping[str, Service]:
        """By SOP class."""

    def judge(self, request: AssociateRequest, peer: Peer) -> Rejection | None:
        """Whether it is let in; if so, it has a place until `leave`."""

    def leave(self) -> None:
        """Give its place back."""


class _Over(Exception):
    """The association has ended as it should."""


class Association:
    """Is the `Link` of its services."""

    def __init__(self, wire: Wire, house: House, address: str, limits: Limits) -> None:
        self._wire, self._house, self._limits = wire, house, limits
        self._peer = Peer("", address)
        self._contexts: Mapping[int, Context] = {}
        self._max_pdu = MAX_PDU_BYTES
        self._head = memoryview(bytearray(8))
        self._left = 0  # of the P-DATA-TF that is being read
        self._taken = 0  # of the message
        self._until = self._began = 0.0
        self._between = True
        self._called = 0
        self._nested = False
        self._cancelled: set[int] = set()
        self._incoming: Incoming | None = None

    def run(self) -> None:
        """All of it; every end is an end in order."""
        established = False
        try:
            established = self._negotiate()
            while established:
                self._serve_one()
        except (LinkGone, _Over):
            pass
        except TooSlow:
            self._abort(Reason.NOT_SPECIFIED, "slow")
        except PduBroken as broken:
            self._abort(broken.reason, broken.reason.name.lower())
        finally:
            if self._incoming is not None:
                self._incoming.close()
            if established:
                self._house.leave()
            self._wire.close()

    def _abort(self, reason: Reason, code: str) -> None:
        _log.info("association aborted", code=code)
        try:
            self._wire.send(pdu.abort(reason))
            self._wire.finish(self._limits.artim)
        except LinkGone:
            pass

    # -- Sta2

    def _negotiate(self) -> bool:
        self._until = time.monotonic() + self._limits.artim
        kind, length = self._next_head(self._limits.artim)
        if kind == Kind.ABORT:
            raise _Over
        if kind != Kind.ASSOCIATE_RQ:
            known = kind in frozenset(Kind)
            reason = Reason.UNEXPECTED_PDU if known else Reason.UNRECOGNIZED_PDU
            raise PduBroken("no A-ASSOCIATE-RQ", reason)
        if length > pdu.MAX_ASSOCIATE_BYTES:
            raise PduBroken("an A-ASSOCIATE-RQ without end")
        request = pdu.read_associate(self._read(length))
        self._peer = Peer(printable(request.calling), self._peer.address, request.called)
        if rejection := self._house.judge(request, self._peer):
            self._wire.send(pdu.associate_rj(rejection))
            self._wire.finish(self._limits.artim)
            return False
        try:
            self._accept(request)
        except BaseException:
            self._house.leave()
            raise
        return True

    def _accept(self, request: AssociateRequest) -> None:
        agreed = agree(request, self._house.services)
        self._contexts = agreed.contexts
        self._max_pdu = min(request.max_pdu or MAX_PDU_BYTES, MAX_PDU_BYTES)
        answer = pdu.associate_ac(
            request,
            agreed.answers,
            agreed.roles,
            max_pdu=MAX_PDU_BYTES,
            implementation=IMPLEMENTATION,
            version=_VERSION,
        )
        self._wire.send(answer)

    def _read(self, size: int) -> bytes:
        content = bytearray(size)
        if size:
            self._wire.fill(memoryview(content), silence=self._limits.artim, until=self._until)
        return bytes(content)

    def _next_head(self, silence: float) -> tuple[int, int]:
        head = self._head[: pdu.HEAD.size]
        self._wire.fill(head, silence=silence, until=self._until)
        kind, length = pdu.HEAD.unpack(head)
        return kind, length

    # -- Sta6: PDUs

    def _next_pdv(self) -> tuple[int, int, int]:
        """(context, control, bytes) of the next presentation data value."""
        if self._left == 0:
            self._left = self._next_data()
        if self._left < pdu.PDV_HEAD.size:
            raise PduBroken("a P-DATA-TF without a whole value")
        head = self._head[: pdu.PDV_HEAD.size]
        self._fill(head)
        length, context, control = pdu.PDV_HEAD.unpack(head)
        self._left -= pdu.PDV_HEAD.size
        size: int = length - 2
        if size < 0 or size > self._left:
            raise PduBroken("a value is longer than its P-DATA-TF")
        if context not in self._contexts:
            raise PduBroken("a value of a context that was not agreed on")
        self._left -= size
        self._taken += size
        return context, control, size

    def _next_data(self) -> int:
        """Bytes of the next P-DATA-TF; whatever else comes ends the association."""
        self._deadline()
        silence = self._limits.idle if self._between else self._limits.stall
        kind, length = self._next_head(silence)
        match kind:
            case Kind.DATA if 0 < length <= MAX_PDU_BYTES:
                return length
            case Kind.DATA:
                raise PduBroken(f"a P-DATA-TF of {length} bytes")
            case Kind.RELEASE_RQ if length == 4:
                self._read(length)
                self._wire.send(pdu.release_rp())
                self._wire.finish(self._limits.artim)
                raise _Over
            case Kind.ABORT:
                self._read(min(length, 4))
                raise _Over
            case _ if kind in frozenset(Kind):
                raise PduBroken("a PDU that does not belong here", Reason.UNEXPECTED_PDU)
            case _:
                raise PduBroken("no PDU", Reason.UNRECOGNIZED_PDU)

    def _deadline(self) -> None:
        """A message has its time by its size: less than that is nobody's line."""
        now = time.monotonic()
        if self._between:
            self._until = now + self._limits.idle
            return
        self._until = self._began + self._limits.grace + self._taken / _SLOWEST_BYTES_PER_S
        if now > self._until:
            raise TooSlow

    def _fill(self, view: memoryview) -> None:
        self._wire.fill(view, silence=self._limits.stall, until=self._until)

    # -- Sta6: messages

    def _next_command(self) -> tuple[Context, dict[int, Any]]:
        """The command set of the next message, and the context that it is of."""
        content, chosen = bytearray(), 0
        self._between, self._taken = True, 0
        while True:
            context, control, size = self._next_pdv()
            if self._between:
                self._between, chosen, self._began = False, context, time.monotonic()
                self._deadline()
            if context != chosen or not control & pdu.COMMAND:
                raise PduBroken("no command set where one is due", Reason.UNEXPECTED_PARAMETER)
            if len(content) + size > MAX_COMMAND_BYTES:
                raise PduBroken("a command set without end")
            piece = bytearray(size)
            if size:
                self._fill(memoryview(piece))
            content += piece
            if control & pdu.LAST:
                break
        try:
            return self._contexts[chosen], dimse.decode(bytes(content))
        except dimse.CommandBroken as error:
            raise PduBroken(str(error)) from error

    def _data(
        self,
        context: Context,
        room: Callable[[], memoryview],
        took: Callable[[int], None],
    ) -> None:
        """The data set that belongs to a command set, piece by piece."""
        while True:
            found, control, size = self._next_pdv()
            if found != context.id or control & pdu.COMMAND:
                raise PduBroken("no data set where one is due", Reason.UNEXPECTED_PARAMETER)
            while size:
                view = room()[:size]
                self._fill(view)
                took(len(view))
                size -= len(view)
            if control & pdu.LAST:
                return

    def _next_message(self) -> Request:
        """The next message that is no C-STORE, with its data set."""
        context, command = self._next_command()
        return self._whole(context, command)

    def _whole(self, context: Context, command: dict[int, Any]) -> Request:
        collected = _Collected()
        if command[Tag.DATA_SET_TYPE] != NO_DATA_SET:
            self._data(context, collected.room, collected.took)
        return Request(context, command, collected.content())

    def _serve_one(self) -> None:
        context, command = self._next_command()
        self._cancelled.clear()
        self._serve(context, command)

    def _serve(self, context: Context, command: dict[int, Any]) -> None:
        match command[Tag.COMMAND_FIELD]:
            case Field.C_STORE:
                self._store(context, command)
            case Field.C_CANCEL:
                self._whole(context, command)  # of what was answered already
            case field if field & dimse.RESPONSE:
                raise PduBroken("a response to nothing", Reason.UNEXPECTED_PDU)
            case _:
                self._answer(self._whole(context, command))

    def _store(self, context: Context, command: dict[int, Any]) -> None:
        incoming = self._incoming = self._incoming or Incoming(self._house.reception, self._peer)
        incoming.begin(context, command)
        if command[Tag.DATA_SET_TYPE] != NO_DATA_SET:
            self._data(context, incoming.room, incoming.took)
        self._respond(context, command, incoming.end())

    def _respond(self, context: Context, command: dict[int, Any], response: Response) -> None:
        self._send(context, dimse.reply(command, response), response.data)

    def _send(self, context: Context, command: bytes, data: bytes) -> None:
        for each in pdu.message(context.id, command, data, self._max_pdu):
            self._wire.send(each)

    # -- services

    def _answer(self, request: Request) -> None:
        command, abstract = dict(request.command), request.context.abstract_syntax
        if request.field == Field.C_ECHO and abstract == VERIFICATION:
            self._respond(request.context, command, Response(dimse.SUCCESS))
            return
        final = False
        try:
            service = self._house.services.get(abstract)
            if service is None:
                raise Refusal(dimse.UNRECOGNISED_OPERATION, "nothing of the kind is done here")
            if len(request.data) > MAX_DATA_BYTES:
                raise Refusal(0xA700, f"a data set of more than {MAX_DATA_BYTES} bytes")
            for response in service.answer(request, self):
                self._respond(request.context, command, response)
                final = final or response.status not in PENDING
        except Refusal as refusal:
            answer = refusal.response()
        except (LinkGone, PduBroken, TooSlow, _Over):
            raise
        except Exception:  # noqa: BLE001 - a service's fault is one request's, not the association's
            _log.error("a service failed", exc_info=True, code=f"{request.field:04x}")
            answer = Refusal(dimse.PROCESSING_FAILURE, "it failed here").response()
        else:
            answer = Refusal(dimse.PROCESSING_FAILURE, "it came to no end").response()
        if not final:
            self._respond(request.context, command, answer)

    @property
    def peer(self) -> Peer:
        """Who has called."""
        return self._peer

    @property
    def contexts(self) -> Sequence[Context]:
        """All that were agreed on."""
        return tuple(self._contexts.values())

    def cancelled(self, message_id: int) -> bool:
        """Whether a C-CANCEL for this request has come."""
        while self._left or self._wire.spoke(0):
            self._take_cancel(self._next_message())
        return message_id in self._cancelled

    def quiet(self, seconds: float) -> bool:
        """Wait until the caller says something, or so long; whether it has said nothing."""
        return not self._left and not self._wire.spoke(seconds)

    def call(self, request: Outgoing) -> Response:
        """Send a request and wait for its answer. LinkGone if none can come any more."""
        self._called = self._called % 0xFFFF + 1
        self._send(request.context, dimse.call(request, self._called), request.data)
        own, wanted = self._called, int(request.command[Tag.COMMAND_FIELD]) | dimse.RESPONSE
        while True:
            context, command = self._next_command()
            if command[Tag.COMMAND_FIELD] == wanted and command.get(Tag.RESPONDED_TO) == own:
                data = self._whole(context, command).data
                return Response(int(command.get(Tag.STATUS, 0)), command, data)
            self._meanwhile(context, command)

    def _meanwhile(self, context: Context, command: dict[int, Any]) -> None:
        """One operation each way was agreed on: the caller may begin one of its own."""
        if command[Tag.COMMAND_FIELD] == Field.C_CANCEL:
            self._take_cancel(self._whole(context, command))
            return
        if self._nested:
            raise PduBroken("a request before the answer to the last", Reason.UNEXPECTED_PDU)
        self._nested = True
        self._serve(context, command)
        self._nested = False

    def _take_cancel(self, found: Request) -> None:
        if found.field != Field.C_CANCEL:  # one operation at a time was agreed on
            raise PduBroken("a request before the answer to the last", Reason.UNEXPECTED_PDU)
        self._cancelled.add(int(found.command.get(Tag.RESPONDED_TO, 0)))


class _Collected:
    """A data set in memory; of one that is too long only so much that this is seen."""

    def __init__(self) -> None:
        self._content = bytearray()
        self._piece = memoryview(bytearray(16 << 10))

    def room(self) -> memoryview:
        return self._piece

    def took(self, count: int) -> None:
        if len(self._content) <= MAX_DATA_BYTES:
            self._content += self._piece[:count]

    def content(self) -> bytes:
        return bytes(self._content)
