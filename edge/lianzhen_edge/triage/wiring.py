"""Triage in a running box: its process, its watch, its desk."""

from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING

from lianzhen_edge.consultations import desk as consultations
from lianzhen_edge.journal.book import Book
from lianzhen_protocol.acuity import Level
from lianzhen_protocol.consultation import Consultation

from .desk import TriageDesk, asks
from .socket import SOCKET
from .watch import Watch

if TYPE_CHECKING:
    from lianzhen_edge.box import Box


class RequestDrafts:
    """Drafts of requests, as the clinic's own desk makes them."""

    def propose(self, book: Book, patient_id: str, level: Level, suggestion_id: str) -> None:
        """A draft, unless the patient has a request: that one's level is a person's already."""
        found = book.find(Consultation, owner=patient_id)
        if all(each.state in consultations.ENDED for each in found):
            consultations.draft_by_triage(book, book.node, patient_id, level, suggestion_id)

    def decided(self, book: Book, patient_id: str, level: Level, suggestion_id: str) -> None:
        """The draft has this level now."""
        consultations.draft_by_triage(book, book.node, patient_id, level, suggestion_id)


def desk_of(box: "Box") -> TriageDesk:
    """A desk on the box's journal; the box's own errors before there is one."""
    return TriageDesk(
        box.journal,
        lambda: box.clock.now_ms,
        asks(box.settings.folder / SOCKET),
        RequestDrafts(),
    )


def services(box: "Box") -> Iterable[tuple[str, Callable[[], Awaitable[None]]]]:
    """The model's process, where one is wanted, and the watch over new vitals."""
    if box.settings.triage_model:
        yield "triage", box.child("triage").run
    yield "triage watch", Watch(box.journal, desk_of(box)).run
