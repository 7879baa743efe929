"""A print job as the box keeps it: sealed, in the journal, until it is known to be on paper."""

import hashlib
from enum import StrEnum
from typing import ClassVar, Final

import msgspec

from lianzhen_protocol.sheets import Index, Sheet, Sheets
from lianzhen_runtime.errors import LianzhenError

from .cups import Job, JobState


class JobStage(StrEnum):
    """How far it is."""

    WAITING = "waiting"
    """Here only; the print server does not have it, or not for certain."""
    GIVEN = "given"
    """The print server has it."""
    PRINTED = "printed"
    """The printer says that it is done."""
    FAILED = "failed"
    CANCELLED = "cancelled"


OPEN: Final = (JobStage.WAITING, JobStage.GIVEN)
AGAIN: Final = frozenset({JobStage.FAILED, JobStage.CANCELLED})


class NoSuchJob(LianzhenError):
    """The box has no such print job."""

    code = "print-job-unknown"
    http_status = 404


class NotNow(LianzhenError):
    """Not possible with a print job that stands as it does."""

    code = "print-job-stage"
    http_status = 409


class PrintJob(Sheet, frozen=True):
    """One wish of one person to have an opinion on paper; ``attempt`` counts the tries."""

    SHEET: ClassVar[str] = "print-job"

    id: str
    opinion: str
    paper: str
    asked_by: str
    asked_ms: int
    pdf: bytes
    """The very bytes that are printed; empty when they are on paper."""
    sha256: str
    stage: JobStage = JobStage.WAITING
    attempt: int = 1
    number: int | None = None
    """The print server's."""
    reasons: tuple[str, ...] = ()
    """What keeps it, in IPP's keywords: ``media-empty`` and so on."""
    error: str = ""
    """Code of what went wrong; ``detail`` is the print server's own sentence."""
    detail: str = ""
    ended_ms: int = 0

    def index(self) -> Index:
        """Of its opinion."""
        return Index(self.id, self.opinion, self.stage, self.asked_ms)

    @property
    def name(self) -> str:
        """What it is called at the print server: names nobody, and is never used twice."""
        return f"lz-{self.id}-{self.attempt}"


def new_job(identity: str, opinion: str, paper: str, pdf: bytes, by: str, now_ms: int) -> PrintJob:
    """A job that waits."""
    return PrintJob(
        id=identity,
        opinion=opinion,
        paper=paper,
        asked_by=by,
        asked_ms=now_ms,
        pdf=pdf,
        sha256=hashlib.sha256(pdf).hexdigest(),
    )


def job_of(sheets: Sheets, identity: str) -> PrintJob:
    """The job; NoSuchJob."""
    found = sheets.get(PrintJob, identity)
    if found is None:
        raise NoSuchJob("there is no such print job")
    return found


def again(job: PrintJob) -> PrintJob:
    """Another try, asked for by a person; NotNow unless the last one failed."""
    if job.stage not in AGAIN:
        raise NotNow("only what failed or was cancelled is printed again")
    return msgspec.structs.replace(
        job,
        stage=JobStage.WAITING,
        attempt=job.attempt + 1,
        number=None,
        reasons=(),
        error="",
        detail="",
        ended_ms=0,
    )


def failed(job: PrintJob, code: str, detail: str, now_ms: int) -> PrintJob:
    """It will not be printed unless a person tries again."""
    return msgspec.structs.replace(
        job, stage=JobStage.FAILED, error=code, detail=detail, reasons=(), ended_ms=now_ms
    )


def delayed(job: PrintJob, code: str, detail: str) -> PrintJob:
    """Nothing is known to be wrong with it; the way to the printer is."""
    return msgspec.structs.replace(job, error=code, detail=detail)


def told(
    job: PrintJob, found: Job | None, printer_reasons: tuple[str, ...], now_ms: int
) -> PrintJob:
    """The job after what the print server says of it."""
    if found is None:
        detail = "the print server knows nothing of it any more; look whether it was printed"
        return failed(job, "print-job-forgotten", detail, now_ms)
    job = msgspec.structs.replace(job, number=found.number, error="", detail="")
    match found.state:
        case JobState.COMPLETED:
            return msgspec.structs.replace(
                job, stage=JobStage.PRINTED, reasons=(), pdf=b"", ended_ms=now_ms
            )
        case JobState.ABORTED:
            return failed(job, "print-job-aborted", ", ".join(found.reasons), now_ms)
        case JobState.CANCELED:
            return msgspec.structs.replace(
                job, stage=JobStage.CANCELLED, reasons=(), ended_ms=now_ms
            )
        case JobState.PENDING | JobState.HELD | JobState.PROCESSING | JobState.STOPPED:
            return msgspec.structs.replace(job, stage=JobStage.GIVEN, reasons=printer_reasons)
