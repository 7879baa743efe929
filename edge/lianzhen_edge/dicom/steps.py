"""What modalities say that they do, written down at the core before they hear Success."""

from lianzhen_edge.journal.book import Book
from lianzhen_protocol.imaging import scanner_key
from lianzhen_protocol.orders import STREAM, Step, StepBegun, StepChanged, step_key
from lianzhen_runtime.errors import LianzhenError

from .services.said import Begin, Change


class StepForeign(LianzhenError):
    """A step is changed by the modality that began it, and by no other."""

    code = "step-foreign"
    http_status = 403


def begin(book: Book, said: Begin) -> str:
    """N-CREATE; the step's key. RecordError ``step-known``."""
    key = step_key(book.node, said.sop_uid)
    body = StepBegun(
        step=key,
        sop_uid=said.sop_uid,
        scanner=scanner_key(book.node, said.title, said.address),
        station=said.station or said.title,
        modality=said.modality,
        study_uid=said.study_uid,
        accession=said.accession,
        number=said.number,
        description=said.description,
        begun=said.begun,
    )
    book.write(STREAM, body)
    return key


def change(book: Book, said: Change) -> str:
    """N-SET; the step's key. RecordError ``step-unknown`` or ``step-ended``."""
    key = step_key(book.node, said.sop_uid)
    found = book.get(Step, key)
    if found and found.scanner != scanner_key(book.node, said.title, said.address):
        raise StepForeign("another modality began this step")
    body = StepChanged(
        step=key,
        state=said.state,
        ended=said.ended,
        description=said.description,
        series=said.series,
    )
    book.write(STREAM, body)
    return key
