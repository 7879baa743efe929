"""Storage Commitment Push Model (PS3.4, J): N-ACTION, and the report once the core has decided.

The report goes on the same association while that is open and quiet; else on a new one, to the
port of the modality's row, tried for ever.
"""

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any, Final

from lianzhen_edge.dicom.core import Core, CoreRefused
from lianzhen_edge.dicom.dimse import (
    PROCESSING_FAILURE,
    SUCCESS,
    UNRECOGNISED_OPERATION,
    Field,
    Link,
    Outgoing,
    Refusal,
    Request,
    Response,
    Tag,
)
from lianzhen_protocol.imaging import is_uid
from lianzhen_runtime.log import Log
from lianzhen_runtime.retry import pause

from . import matching
from .matching import Attributes
from .said import MAX_COMMITTED, Commit, Decided, Sop, Taken

SOP_CLASS: Final = "1.2.840.10008.1.20.1"
INSTANCE: Final = "1.2.840.10008.1.20.1.1"
"""The one instance of it that there is."""

SAME_SECONDS: Final = 60.0
"""How long a report waits for its time on the association of the request."""

_NO_SUCH_INSTANCE: Final = 0x0112
_NO_SUCH_ACTION: Final = 0x0123
_INVALID: Final = 0x0115
_LIMIT: Final = 0x0213
_TRANSACTION, _REFERENCED, _FAILED, _REASON = 0x00081195, 0x00081199, 0x00081198, 0x00081197
_CLASS_OF, _UID_OF = 0x00081150, 0x00081155
_DUE_SECONDS: Final = 5.0
_FIRST_PAUSE, _LONGEST_PAUSE = 2.0, 300.0
_log = Log("lianzhen.scp")


def read(data: bytes, transfer_syntax: str, title: str, address: str) -> Commit:
    """The request in a data set; Refusal if there is none in it."""
    try:
        found = matching.read(data, transfer_syntax)
    except matching.QueryBroken as error:
        raise Refusal(PROCESSING_FAILURE, str(error)) from error
    transaction, items = matching.text(found, _TRANSACTION), found.get(_REFERENCED, ())
    if isinstance(items, str) or not 0 < len(items) <= MAX_COMMITTED:
        raise Refusal(_INVALID, f"1 to {MAX_COMMITTED} images are referenced")
    images = tuple(
        Sop(sop_class=matching.text(item, _CLASS_OF), sop_uid=matching.text(item, _UID_OF))
        for item in items
    )
    uids = [transaction, *(uid for each in images for uid in (each.sop_class, each.sop_uid))]
    if not all(is_uid(uid) for uid in uids):
        raise Refusal(_INVALID, "a UID is missing, or is none")
    return Commit(title=title, address=address, transaction=transaction, images=images)


def report(decided: Decided) -> tuple[int, Attributes]:
    """Event type and event information (PS3.4, table J.3-2)."""
    done = [{_CLASS_OF: each.sop_class, _UID_OF: each.sop_uid} for each in decided.done]
    failed = [
        {_CLASS_OF: each.sop_class, _UID_OF: each.sop_uid, _REASON: str(each.reason)}
        for each in decided.failed
    ]
    said: dict[int, Any] = {_TRANSACTION: decided.transaction}
    if done:
        said[_REFERENCED] = done
    if failed:
        said[_FAILED] = failed
    return (2 if failed else 1), said


class Reports:
    """Tells modalities on associations of our own what was decided. A thread."""

    def __init__(self, core: Core, title: str) -> None:
        self._core, self._title = core, title
        self._lock = threading.Lock()
        self._held: set[str] = set()
        self._tries: dict[str, tuple[int, float]] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="commitments", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Tell nobody any more; what was not told is told by the next one."""
        self._ended.set()
        self._thread.join()

    @contextlib.contextmanager
    def holding(self, key: str) -> Iterator[None]:
        """For the length of a block somebody else tells this one."""
        with self._lock:
            self._held.add(key)
        try:
            yield
        finally:
            with self._lock:
                self._held.discard(key)

    def _run(self) -> None:
        while not self._ended.wait(_DUE_SECONDS):
            due: list[Decided] = []
            try:
                due = self._core.ask("/dicom/commitments", list[Decided])
                for each in due:
                    self._try(each)
            except (Refusal, CoreRefused):
                continue  # it starts
            except Exception:  # noqa: BLE001 - one round's; the next one tries again
                _log.error("commitments were not told", exc_info=True)
            self._tries = {each.id: self._tries[each.id] for each in due if each.id in self._tries}

    def _try(self, decided: Decided) -> None:
        attempt, after = self._tries.get(decided.id, (0, 0.0))
        with self._lock:
            held = decided.id in self._held
        if held or not decided.port or time.monotonic() < after or self._ended.is_set():
            return
        if not self._core.ask(f"/dicom/commitments/{decided.id}", list[Decided]):
            return  # it was told on its own association meanwhile
        if self._tell(decided):
            self._core.ask("/dicom/commitments/told", Taken, Taken(id=decided.id))
            _log.info("commitment told", count=len(decided.done))
            return
        wait = pause(attempt, base=_FIRST_PAUSE, cap=_LONGEST_PAUSE)
        self._tries[decided.id] = attempt + 1, time.monotonic() + wait
        _log.info("commitment not told", attempt=attempt + 1, wait_s=round(wait))

    def _tell(self, decided: Decided) -> bool:
        from pydicom.dataset import Dataset  # both are large, and few are told this way
        from pynetdicom import AE, build_role

        entity = AE(ae_title=self._title)
        entity.acse_timeout = entity.dimse_timeout = entity.connection_timeout = 10
        entity.add_requested_context(SOP_CLASS)
        opened = entity.associate(
            decided.address,
            decided.port,
            ae_title=decided.title,
            ext_neg=[build_role(SOP_CLASS, scp_role=True)],
        )
        if not opened.is_established:
            return False
        try:
            event, said = report(decided)
            answer, _ = opened.send_n_event_report(
                matching.dataset(said), event, SOP_CLASS, INSTANCE
            )
            return bool(isinstance(answer, Dataset) and answer.get("Status") == SUCCESS)
        except ValueError:
            return False  # it takes no reports
        finally:
            opened.release()


class Commitment:
    """The service."""

    sop_classes: Sequence[str] = (SOP_CLASS,)

    def __init__(self, core: Core, reports: Reports) -> None:
        self._core, self._reports = core, reports

    def answer(self, request: Request, link: Link) -> Iterator[Response]:
        """N-ACTION."""
        if request.field != Field.N_ACTION:
            raise Refusal(UNRECOGNISED_OPERATION, "commitment is asked for by N-ACTION")
        if request.command.get(Tag.REQUESTED_SOP_INSTANCE) != INSTANCE:
            raise Refusal(_NO_SUCH_INSTANCE, "there is another instance of commitment only")
        if request.command.get(Tag.ACTION_TYPE) != 1:
            raise Refusal(_NO_SUCH_ACTION, "the one action is type 1")
        syntax, peer = request.context.transfer_syntax, link.peer
        asked = read(request.data, syntax, peer.title, peer.address)
        try:
            taken = self._core.ask("/dicom/commitments", Taken, asked)
        except CoreRefused as refused:
            raise Refusal(_LIMIT, str(refused)) from refused
        with self._reports.holding(taken.id):
            yield Response(SUCCESS, {Tag.ACTION_TYPE: 1})
            self._follow(request, link, taken.id)

    def _follow(self, request: Request, link: Link, key: str) -> None:
        """Tell it here if it is decided before the caller says anything else."""
        until, wait = time.monotonic() + SAME_SECONDS, 0.1
        while time.monotonic() < until:
            for decided in self._core.ask(f"/dicom/commitments/{key}", list[Decided]):
                if self._tell(request, link, decided):
                    self._core.ask("/dicom/commitments/told", Taken, Taken(id=key))
                return
            if not link.quiet(wait):
                return
            wait = min(2.0, wait * 2)

    @staticmethod
    def _tell(request: Request, link: Link, decided: Decided) -> bool:
        event, said = report(decided)
        command = {
            Tag.COMMAND_FIELD: Field.N_EVENT_REPORT,
            Tag.AFFECTED_SOP_CLASS: SOP_CLASS,
            Tag.AFFECTED_SOP_INSTANCE: INSTANCE,
            Tag.EVENT_TYPE: event,
        }
        content = matching.encoded(matching.dataset(said), request.context.transfer_syntax)
        return link.call(Outgoing(request.context, command, content)).status == SUCCESS
