"""Which services the port has."""

from collections.abc import Sequence

from lianzhen_edge.dicom.core import Core
from lianzhen_edge.dicom.dimse import Service

from .said import Listed
from .worklist import Worklist


def services(core: Core) -> Sequence[Service]:
    """All of them."""
    return (Worklist(lambda: core.ask("/dicom/worklist", Listed)),)
