"""C-STORE: from an association into the segment log, and the status that its sender gets.

Success (0000) is sent only when the image is durable. Everything else is told to the sender as
DICOM has it: a status with an Error Comment, and the association goes on. What cannot be read is
held for a person to look at.

::

    0000  durable
    0117  the SOP Instance UID is none: it may hold a path
    0122  the context is not one of a storage class
    A700  no room, or the medium refuses: send it again later
    A900  the data set is not what the command says, or does not say whose image it is
    C000  not a data set, or cut off
"""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from lianzhen_protocol.imaging import is_uid
from lianzhen_runtime import log

from . import elements
from .arrival import Arrival, Kept, part10_head
from .dimse import SOP_CLASS_NOT_SUPPORTED, SUCCESS, Context, Peer, Refusal, Response, Tag
from .negotiation import is_storage
from .notices import Ear
from .segment_log import Draft, SegmentLog
from .segments import LogFailed, LogFull

_REMEMBERED: Final = 4096
_DRAIN_BYTES: Final = 64 << 10
_log = log.Log("lianzhen.scp")


class Held(Refusal):
    """Refused, and kept all the same, for a person to look at."""


def _fields(walk: elements.Walk, sop_class: str, sop_uid: str) -> dict[int, bytes]:
    try:
        fields = walk.end()
    except elements.DataSetBroken as error:
        raise Held(0xC000, str(error)) from error
    for tag, wanted in ((elements.SOP_CLASS, sop_class), (elements.SOP_UID, sop_uid)):
        if _uid(fields, tag) != wanted:
            raise Held(0xA900, "the data set is of another SOP than the command")
    for tag, name in ((elements.STUDY_UID, "Study"), (elements.SERIES_UID, "Series")):
        if not is_uid(_uid(fields, tag)):
            raise Held(0xA900, f"{name} Instance UID is missing or no UID")
    return fields


def _uid(fields: dict[int, bytes], tag: int) -> str:
    return fields.get(tag, b"").decode("latin-1").rstrip("\0 ")


class Reception:
    """What all associations share of it. Any thread."""

    def __init__(self, segments: SegmentLog, notices: Ear) -> None:
        self.segments = segments
        self._notices = notices
        self._lock = threading.Lock()
        self._known: OrderedDict[str, Refusal | None] = OrderedDict()

    def is_known(self, sha256: str) -> bool:
        """Whether it was sent before: it is durable, or held, already. The Refusal that it got."""
        with self._lock:
            if sha256 not in self._known:
                return False
            if (before := self._known[sha256]) is not None:
                raise before
            return True

    def keep(self, draft: Draft, arrival: Arrival, refusal: Held | None) -> None:
        """Make what was drafted durable. Refusal: it is not, or it is only held."""
        meta = msgspec.msgpack.encode(arrival)
        try:
            place = draft.commit(meta, held=refusal is not None)
        except (LogFull, LogFailed) as error:
            raise refusal or self.full(error) from error
        _log.transition("segments", "take images")
        self._remember(arrival.sha256, refusal)
        self._notices.tell(Kept(segment=place.segment, offset=place.offset))
        if refusal is not None:
            raise refusal

    @staticmethod
    def full(error: LogFull | LogFailed) -> Refusal:
        """What the log's refusal is to a sender."""
        _log.transition("segments", "refuse", bad=True, code=error.code)
        return Refusal(0xA700, str(error))

    def _remember(self, sha256: str, outcome: Refusal | None) -> None:
        with self._lock:
            self._known[sha256] = outcome
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)


class Incoming:
    """One association's C-STOREs, one after another: where the data set goes as it comes."""

    def __init__(self, reception: Reception, peer: Peer) -> None:
        self._reception, self._peer = reception, peer
        self._draft = Draft(reception.segments)
        self._drain: memoryview | None = None
        self._refusal: Refusal | None = None
        self._drained = False

    def begin(self, context: Context, command: Mapping[int, Any]) -> None:
        """A request; whatever is wrong with it is said at its end."""
        self._draft.begin()
        self._sop_class = command.get(Tag.AFFECTED_SOP_CLASS, "")
        self._sop_uid = command.get(Tag.AFFECTED_SOP_INSTANCE, "")
        self._syntax = context.transfer_syntax
        self._refusal = _fault(context, self._sop_class, self._sop_uid)
        self._drained = self._refusal is not None
        self._walk = elements.Walk(self._syntax)
        self._sha256 = hashlib.sha256()
        if not self._drained:
            head = part10_head(self._sop_class, self._sop_uid, self._syntax)
            self._draft.room()[: len(head)] = head
            self._draft.took(len(head))
            self._sha256.update(head)

    def room(self) -> memoryview:
        """Where its data set goes on, at least a byte."""
        if not self._drained:
            try:
                return self._draft.room()
            except (LogFull, LogFailed) as error:
                self._refusal = self._reception.full(error)
                self._drained = True
                self._draft.begin()
        if self._drain is None:
            self._drain = memoryview(bytearray(_DRAIN_BYTES))
        return self._drain

    def took(self, count: int) -> None:
        """So many bytes were put there."""
        if self._drained:
            return
        self._draft.took(count)
        piece = self._draft.last(count)
        self._sha256.update(piece)
        if self._refusal is None:
            try:
                self._walk.feed(piece)
            except elements.DataSetBroken as error:
                self._refusal = Held(0xC000, str(error))

    def end(self) -> Response:
        """The data set is whole, as far as its sender says: the response."""
        try:
            self._keep()
        except Refusal as refusal:
            _log.warning("image refused", status=f"{refusal.status:04X}")
            return refusal.response()
        return Response(SUCCESS)

    def close(self) -> None:
        """Let go of what was not whole."""
        self._draft.close()

    def _keep(self) -> None:
        refusal, fields = self._refusal, dict[int, bytes]()
        if refusal is not None and not isinstance(refusal, Held):
            raise refusal
        sha256 = self._sha256.hexdigest()
        if self._reception.is_known(sha256):
            self._draft.begin()
            return
        if refusal is None:
            try:
                fields = _fields(self._walk, self._sop_class, self._sop_uid)
            except Held as found:
                refusal = found
        arrival = Arrival(
            title=self._peer.title,
            address=self._peer.address,
            sop_class=self._sop_class,
            sop_uid=self._sop_uid,
            transfer_syntax=self._syntax,
            sha256=sha256,
            size=self._draft.size,
            fields=fields,
            status=refusal.status if refusal else 0,
            comment=refusal.comment if refusal else "",
        )
        self._reception.keep(self._draft, arrival, refusal)


def _fault(context: Context, sop_class: str, sop_uid: str) -> Refusal | None:
    if not is_uid(sop_uid):
        return Refusal(0x0117, "the SOP Instance UID is no UID")
    if sop_class != context.abstract_syntax:
        return Refusal(0xA900, "the SOP class is not the one that was agreed on")
    if not is_storage(sop_class):
        return Refusal(SOP_CLASS_NOT_SUPPORTED, "nothing of this SOP class is stored")
    return None
