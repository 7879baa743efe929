"""A print queue of CUPS, over IPP: jobs that are given once, and what became of them."""

import itertools
from collections.abc import Sequence
from enum import StrEnum
from typing import Final, NamedTuple

import aiohttp
import msgspec

from . import ipp
from .ipp import Answer, Attribute, IppError, Value

_CREATE, _SEND, _CANCEL = 0x0005, 0x0006, 0x0008
_GET_JOB, _GET_JOBS, _GET_PRINTER = 0x0009, 0x000A, 0x000B
_NOT_FOUND: Final = 0x0406
_TIMEOUT: Final = aiohttp.ClientTimeout(total=30)
_USER: Final = "lianzhen"
_JOBS_AT_ONCE: Final = 500
MEDIA: Final = {"A4": "iso_a4_210x297mm", "A5": "iso_a5_148x210mm"}


class JobState(StrEnum):
    """A job's state by its IPP number (RFC 8011, 5.3.7)."""

    PENDING = "pending"
    HELD = "held"
    PROCESSING = "processing"
    STOPPED = "stopped"
    CANCELED = "canceled"
    ABORTED = "aborted"
    COMPLETED = "completed"


_STATES: Final = dict(enumerate(JobState, 3))
ENDED: Final = frozenset({JobState.CANCELED, JobState.ABORTED, JobState.COMPLETED})


class Job(NamedTuple):
    """A job as the server tells it."""

    number: int
    name: str
    state: JobState
    reasons: tuple[str, ...]


class PrinterState(msgspec.Struct, frozen=True, kw_only=True):
    """A queue as the server tells it; ``reasons`` without severity and without CUPS's own."""

    accepting: bool
    stopped: bool
    reasons: tuple[str, ...]
    message: str
    media: tuple[str, ...]


class NoPrintServer(IppError):
    """Nobody answers where the print server should be."""

    code = "print-server-silent"
    http_status = 503


class Queue:
    """One queue. ``server`` is an http address, or the path of a Unix socket."""

    def __init__(self, server: str, queue: str) -> None:
        self._socket = server if server.startswith("/") else None
        self._base = "http://localhost" if self._socket else server.rstrip("/")
        self._uri = f"ipp://localhost/printers/{queue}"
        self._path = f"/printers/{queue}"
        self._numbers = itertools.count(1)

    async def printer(self) -> PrinterState:
        """How the queue and, through it, the printer is. IppError if there is no such queue."""
        names = (
            *("printer-state", "printer-state-reasons", "printer-state-message"),
            *("printer-is-accepting-jobs", "media-supported"),
        )
        wanted = Attribute("requested-attributes", ipp.KEYWORD, names)
        found = await self._ask(_GET_PRINTER, [wanted])
        (state,) = found.of(ipp.PRINTER)[:1] or [{}]
        message = state.get("printer-state-message", ("",))[0]
        return PrinterState(
            accepting=state.get("printer-is-accepting-jobs") == (True,),
            stopped=state.get("printer-state") == (5,),
            reasons=_plain(state.get("printer-state-reasons", ())),
            message=str(message),
            media=tuple(map(str, state.get("media-supported", ()))),
        )

    async def find(self, name: str) -> Job | None:
        """The job with this name, also one that ended; None if the server knows none."""
        filters = [
            Attribute("which-jobs", ipp.KEYWORD, ("all",)),
            Attribute("limit", ipp.INTEGER, (_JOBS_AT_ONCE,)),
            _JOB_ATTRIBUTES,
        ]
        found = await self._ask(_GET_JOBS, filters)
        jobs = [_job(raw) for raw in found.of(ipp.JOB)]
        return next((job for job in jobs if job.name == name), None)

    async def job(self, number: int) -> Job | None:
        """A job by its number; None if the server has forgotten it."""
        asked = [Attribute("job-id", ipp.INTEGER, (number,)), _JOB_ATTRIBUTES]
        found = await self._call(_GET_JOB, asked)
        if found.status == _NOT_FOUND:
            return None
        _refuse(found)
        return _job(found.of(ipp.JOB)[0])

    async def create(self, name: str, paper: str) -> int:
        """Open a job that holds nothing yet; its number. Nothing is printed of it so far."""
        asked = [Attribute("job-name", ipp.NAME, (name,))]
        options = [
            Attribute("media", ipp.KEYWORD, (MEDIA[paper],)),
            Attribute("print-scaling", ipp.KEYWORD, ("none",)),
        ]
        found = await self._ask(_CREATE, asked, options)
        return _job(found.of(ipp.JOB)[0]).number

    async def send(self, number: int, pdf: bytes) -> None:
        """Give the job its one document. IppError if it has it already."""
        asked = [
            Attribute("job-id", ipp.INTEGER, (number,)),
            Attribute("document-format", ipp.MIME, ("application/pdf",)),
            Attribute("last-document", ipp.BOOLEAN, (True,)),
        ]
        await self._ask(_SEND, asked, data=pdf)

    async def cancel(self, number: int) -> None:
        """End a job. IppError if it ended already."""
        await self._ask(_CANCEL, [Attribute("job-id", ipp.INTEGER, (number,))])

    async def _ask(
        self,
        operation: int,
        asked: Sequence[Attribute],
        options: Sequence[Attribute] = (),
        data: bytes = b"",
    ) -> Answer:
        found = await self._call(operation, asked, options, data)
        _refuse(found)
        return found

    async def _call(
        self,
        operation: int,
        asked: Sequence[Attribute],
        options: Sequence[Attribute] = (),
        data: bytes = b"",
    ) -> Answer:
        head = [
            Attribute("attributes-charset", ipp.CHARSET, ("utf-8",)),
            Attribute("attributes-natural-language", ipp.LANGUAGE, ("en",)),
            Attribute("printer-uri", ipp.URI, (self._uri,)),
            # job-id stands right behind the target, as RFC 8011, 4.1.5 wants it
            *(found for found in asked if found.name == "job-id"),
            Attribute("requesting-user-name", ipp.NAME, (_USER,)),
            *(found for found in asked if found.name != "job-id"),
        ]
        groups: list[ipp.Group] = [(ipp.OPERATION, head)]
        if options:
            groups.append((ipp.JOB, options))
        body = ipp.request(operation, next(self._numbers), groups, data)
        return ipp.answer(await self._post(body))

    async def _post(self, body: bytes) -> bytes:
        connector = aiohttp.UnixConnector(self._socket) if self._socket else None
        headers = {"Content-Type": "application/ipp"}
        try:
            async with (
                aiohttp.ClientSession(connector=connector, timeout=_TIMEOUT) as session,
                session.post(self._base + self._path, data=body, headers=headers) as answer,
            ):
                if answer.status != 200:
                    raise IppError(f"the print server answers with HTTP status {answer.status}")
                return await answer.read()
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise NoPrintServer("the print server does not answer; is CUPS running?") from error


_JOB_ATTRIBUTES: Final = Attribute(
    "requested-attributes",
    ipp.KEYWORD,
    ("job-id", "job-name", "job-state", "job-state-reasons"),
)


def _refuse(found: Answer) -> None:
    if not found.good:
        said = found.message() or f"status {found.status:#06x}"
        raise IppError(f"the print server refuses: {said}", found.status)


def _job(raw: dict[str, tuple[Value, ...]]) -> Job:
    try:
        number, state = raw["job-id"][0], raw["job-state"][0]
        return Job(
            int(number),
            str(raw.get("job-name", ("",))[0]),
            _STATES[int(state)],
            _plain(raw.get("job-state-reasons", ())),
        )
    except (KeyError, ValueError) as error:
        raise IppError("the print server tells of a job without number or state") from error


def _plain(reasons: Sequence[Value]) -> tuple[str, ...]:
    """Reasons without ``none``, without CUPS's own, and without -error, -warning, -report."""
    found = []
    for reason in map(str, reasons):
        for severity in ("-error", "-warning", "-report"):
            reason = reason.removesuffix(severity)
        if reason != "none" and not reason.startswith("cups-"):
            found.append(reason)
    return tuple(dict.fromkeys(found))
