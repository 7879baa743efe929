"""Which services the port has."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from lianzhen_edge.dicom.core import Core
from lianzhen_edge.dicom.dimse import Service
from lianzhen_edge.dicom.segments import SegmentReader

from .carriers import Shelves
from .commitment import Commitment, Reports
from .mpps import PerformedSteps
from .query import Query, Retrieval
from .said import Listed
from .worklist import Worklist


@contextmanager
def services(core: Core, reader: SegmentReader, title: str) -> Iterator[Sequence[Service]]:
    """All of them; ``title`` is ours, where we are the caller."""
    reports = Reports(core, title)
    try:
        yield (
            Worklist(lambda: core.ask("/dicom/worklist", Listed)),
            PerformedSteps(core),
            Commitment(core, reports),
            Query(core, title),
            Retrieval(core, Shelves(reader), title),
        )
    finally:
        reports.close()
