"""The Storage SCP: a process of its own, so that no image can stand in an alarm's way.

Success (0000) is sent only when the image is durable in the segment log. Everything else is told
to the sender as DICOM has it: a status with an Error Comment, and the association goes on. What
cannot be read is held for a person to look at; a caller that is not admitted is rejected before
it may say anything.

::

    0000  durable
    0117  the SOP Instance UID is none: it may hold a path
    A700  no room, or the medium refuses: send it again later
    A900  the data set is not what the command says, or does not say whose image it is
    C000  not a data set, or cut off
"""

import asyncio
import hashlib
import http.client
import queue
import socket
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, Protocol

import msgspec
from pydicom import config
from pydicom.dataset import Dataset
from pynetdicom import AE, AllStoragePresentationContexts, _config, evt, timer
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from lianzhen_edge.settings import Settings
from lianzhen_protocol.imaging import is_uid
from lianzhen_runtime import log
from lianzhen_runtime.errors import Unavailable
from lianzhen_runtime.files import private_folder
from lianzhen_runtime.keys import FileKeys
from lianzhen_runtime.retry import pause

from . import elements
from .arrival import FOLDER, Admissions, Arrival, Called, Kept, part10, printable
from .room import ImageShare
from .segments import LogFailed, LogFull, SegmentLog

TRANSFER_SYNTAXES: Final = (
    "1.2.840.10008.1.2.1",  # explicit little endian
    "1.2.840.10008.1.2",  # implicit little endian
    "1.2.840.10008.1.2.2",  # explicit big endian
    "1.2.840.10008.1.2.1.99",  # deflated
    "1.2.840.10008.1.2.5",  # RLE
    *(f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 57, 70)),  # JPEG
    *(f"1.2.840.10008.1.2.4.{number}" for number in (80, 81)),  # JPEG-LS
    *(f"1.2.840.10008.1.2.4.{number}" for number in (90, 91, 201, 202, 203)),  # JPEG 2000, HTJ2K
    *(f"1.2.840.10008.1.2.4.{number}" for number in (100, 101)),  # MPEG-2
    *(f"1.2.840.10008.1.2.4.{number}" for number in range(102, 109)),  # H.264, H.265
)
"""Stored as they come; never transcoded before the answer."""

MAX_ASSOCIATIONS: Final = 8
MAX_PDU_BYTES: Final = 128 << 10
_REMEMBERED: Final = 4096
_WAITING_NOTICES: Final = 1000
_MAX_COMMENT: Final = 64
_log = log.Log("lianzhen.scp")


class Refusal(Exception):
    """Why an image is not taken: DICOM status and Error Comment. ``hold``: keep it all the same."""

    def __init__(self, status: int, comment: str, *, hold: bool = False) -> None:
        super().__init__(comment)
        self.status, self.comment, self.hold = status, comment[:_MAX_COMMENT], hold

    def answer(self) -> Dataset:
        """The response's elements."""
        answer = Dataset()
        answer.Status = self.status
        answer.ErrorComment = self.comment
        return answer


def read_arrival(
    sop_class: str, sop_uid: str, transfer_syntax: str, data_set: bytes
) -> dict[int, bytes]:
    """The index values of a data set that is whole and is what its command says; or Refusal."""
    try:
        fields = elements.fields(data_set, transfer_syntax)
    except elements.DataSetBroken as error:
        raise Refusal(0xC000, str(error), hold=True) from error
    for tag, wanted in ((elements.SOP_CLASS, sop_class), (elements.SOP_UID, sop_uid)):
        if _uid(fields, tag) != wanted:
            raise Refusal(0xA900, "the data set is of another SOP than the command", hold=True)
    for tag, name in ((elements.STUDY_UID, "Study"), (elements.SERIES_UID, "Series")):
        if not is_uid(_uid(fields, tag)):
            raise Refusal(0xA900, f"{name} Instance UID is missing or no UID", hold=True)
    return fields


def _uid(fields: dict[int, bytes], tag: int) -> str:
    return fields.get(tag, b"").decode("latin-1").rstrip("\0 ")


class Ear(Protocol):
    """Who is told."""

    def tell(self, notice: Kept | Called) -> None:
        """Say it soon, without waiting for an answer."""


class Notices:
    """Tells the core, beside the associations, until it has heard; what dies with us is found by
    the core's scan after our death.
    """

    def __init__(self, control: Path) -> None:
        self._control = control
        self._queue: queue.Queue[tuple[str, bytes]] = queue.Queue(_WAITING_NOTICES)
        self._connection: _UnixConnection | None = None
        threading.Thread(target=self._run, name="notices", daemon=True).start()

    def tell(self, notice: Kept | Called) -> None:
        """Say it soon; drop it if nobody has listened for a while."""
        target = "/dicom/kept" if isinstance(notice, Kept) else "/dicom/called"
        try:
            self._queue.put_nowait((target, msgspec.json.encode(notice)))
        except queue.Full:
            _log.transition("core", "does not listen", bad=True)

    def _run(self) -> None:
        while True:
            target, body = self._queue.get()
            attempt = 0
            while not self._heard(target, body):
                _log.transition("core", "does not listen", bad=True)
                time.sleep(pause(attempt, base=0.1, cap=2.0))
                attempt += 1
            _log.transition("core", "listens")

    def _heard(self, target: str, body: bytes) -> bool:
        try:
            self._connection = self._connection or _UnixConnection(self._control)
            self._connection.request("POST", target, body)
            answer = self._connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException):
            self._connection = None
            return False
        return answer.status < 500  # it is starting, or its disk is full


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("core", timeout=10)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class Reception:
    """The answers to what callers ask. Runs on pynetdicom's threads, which own no state."""

    def __init__(self, segments: SegmentLog, admissions: Admissions, notices: Ear) -> None:
        self._segments = segments
        self._admissions = admissions
        self._notices = notices
        self._lock = threading.Lock()
        self._known: OrderedDict[str, Refusal | None] = OrderedDict()

    def handlers(self) -> list[Any]:
        """For the AE."""
        return [
            (evt.EVT_CONN_OPEN, self._connected),
            (evt.EVT_REQUESTED, self._requested),
            (evt.EVT_C_ECHO, lambda _event: 0x0000),
            (evt.EVT_C_STORE, self._store),
        ]

    @staticmethod
    def _connected(event: evt.Event) -> None:
        found = event.assoc.dul.socket
        if found is not None and found.socket is not None:
            found.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _requested(self, event: evt.Event) -> None:
        """A caller that is not on the list is rejected: permanent, calling AE not recognised."""
        association = event.assoc
        title, address = _caller(association)
        admitted = self._admissions.admits(title, address)
        self._notices.tell(Called(title=title, address=address, admitted=admitted))
        if not admitted:
            _log.info("association refused", code="ae-unknown")
            association.acse.send_reject(0x01, 0x01, 0x03)
            association.kill()

    def _store(self, event: evt.Event) -> Dataset | int:
        request, context = event.request, event.context
        if not isinstance(request, C_STORE):
            raise TypeError("bound to another event than EVT_C_STORE")
        title, address = _caller(event.assoc)
        try:
            if not is_uid(str(request.AffectedSOPInstanceUID)):
                raise Refusal(0x0117, "the SOP Instance UID is no UID")
            if request.AffectedSOPClassUID != context.abstract_syntax:
                raise Refusal(0xA900, "the SOP class is not the one that was agreed on")
            self.keep(
                title,
                address,
                str(request.AffectedSOPClassUID),
                str(request.AffectedSOPInstanceUID),
                str(context.transfer_syntax),
                request.DataSet.getvalue() if request.DataSet else b"",
            )
        except Refusal as refusal:
            _log.warning("image refused", status=f"{refusal.status:04X}")
            return refusal.answer()
        return 0x0000

    def keep(
        self,
        title: str,
        address: str,
        sop_class: str,
        sop_uid: str,
        transfer_syntax: str,
        data_set: bytes,
    ) -> None:
        """Make an image durable. Refusal: it is not, or it is only held."""
        file = part10(sop_class, sop_uid, transfer_syntax, data_set)
        sha256 = hashlib.sha256(file).hexdigest()
        with self._lock:
            if sha256 in self._known:  # sent again: it is durable, or held, already
                if (before := self._known[sha256]) is not None:
                    raise before
                return
        refusal: Refusal | None = None
        fields: dict[int, bytes] = {}
        try:
            fields = read_arrival(sop_class, sop_uid, transfer_syntax, data_set)
        except Refusal as found:
            refusal = found
        arrival = Arrival(
            title=title,
            address=address,
            sop_class=sop_class,
            sop_uid=sop_uid,
            transfer_syntax=transfer_syntax,
            sha256=sha256,
            size=len(file),
            fields=fields,
            status=refusal.status if refusal else 0,
            comment=refusal.comment if refusal else "",
        )
        try:
            place = self._segments.append(
                msgspec.msgpack.encode(arrival), file, held=refusal is not None
            )
        except (LogFull, LogFailed) as error:
            _log.transition("segments", "refuse", bad=True, code=error.code)
            raise refusal or Refusal(0xA700, str(error)) from error
        _log.transition("segments", "take images")
        self._remember(sha256, refusal)
        self._notices.tell(Kept(segment=place.segment, offset=place.offset))
        if refusal is not None:
            raise refusal

    def _remember(self, sha256: str, outcome: Refusal | None) -> None:
        with self._lock:
            self._known[sha256] = outcome
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)


def _caller(association: Any) -> tuple[str, str]:
    requested = association.requestor.primitive
    return printable(requested.calling_ae_title or ""), str(association.requestor.address)


def entity(title: str, syntaxes: Sequence[str] = TRANSFER_SYNTAXES) -> AE:
    """Our application entity: what it accepts and how long it waits."""
    found = AE(ae_title=title)
    for context in AllStoragePresentationContexts:
        if context.abstract_syntax is not None:
            found.add_supported_context(context.abstract_syntax, list(syntaxes))
    found.add_supported_context(Verification)
    found.maximum_associations = MAX_ASSOCIATIONS
    found.maximum_pdu_size = MAX_PDU_BYTES
    return found


def judge_ourselves() -> None:
    """What is no UID must reach us, so that its sender gets a status, and not an abort.

    The libraries would refuse it, or warn of it with the value in the warning. Their timeouts run
    on the wall's clock, whose leap would end every association: ours are not moved.
    """
    timer.time = SimpleNamespace(time=time.monotonic)  # type: ignore[assignment, attr-defined]
    _config.VALIDATORS["UI"] = lambda _value: (True, "")
    config.settings.reading_validation_mode = config.IGNORE
    config.settings.writing_validation_mode = config.IGNORE


async def run(settings: Settings) -> None:
    """Serve until cancelled. Unavailable, in one sentence, for what keeps it from starting."""
    log.configure(settings.log_level)
    log.keep(settings.folder, "scp", settings.log_bytes)
    judge_ourselves()
    folder = private_folder(settings.folder / FOLDER)
    keys, share = FileKeys(settings.folder / "keys"), ImageShare.of(settings)
    segments = SegmentLog(folder, keys, room=share.left)
    reception = Reception(segments, Admissions(folder), Notices(settings.folder / "control.sock"))
    address = (settings.listen, settings.dicom_port)
    try:
        server = entity(settings.dicom_ae_title).start_server(
            address, block=False, evt_handlers=reception.handlers()
        )
    except OSError as error:
        raise Unavailable(
            f"port {settings.dicom_port} cannot be served: {error.strerror}; "
            "is another one running?"
        ) from error
    _log.info("scp runs", port=settings.dicom_port)
    try:
        await asyncio.Event().wait()
    finally:
        if server is not None:
            server.shutdown()
        segments.close()
