"""Of which streams the log is a second copy, or nobody's record, so that runs of it may leave.

Everything else stays for good: for what a doctor, a patient or money did, the log holds what was
said, word for word and in its order, where sheets hold what became of it (docs/operations.md).
"""

from collections.abc import Mapping
from typing import Final

from lianzhen_protocol import telemetry, vitals
from lianzhen_protocol.records import Body, DiagnosticNote
from lianzhen_protocol.series import VitalsSeries
from lianzhen_protocol.telemetry import LanesReported
from lianzhen_protocol.vitals import VitalsReading

LEAVING: Final[Mapping[str, frozenset[type[Body]]]] = {
    vitals.STREAM: frozenset({VitalsReading, VitalsSeries}),  # whole in sheets: reading, minute
    telemetry.STREAM: frozenset({LanesReported}),
    "record.diagnostic": frozenset({DiagnosticNote}),
}


def stays(stream: str, body: Body) -> bool:
    """Whether a record keeps its run, although runs of that stream may leave."""
    kinds = LEAVING.get(stream)
    return kinds is not None and type(body) not in kinds
