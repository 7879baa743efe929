"""What stands before a completion and what follows it, in the same commit."""

from collections.abc import Callable
from typing import Final

from lianzhen_edge.journal.book import Book
from lianzhen_edge.settlement.desk import after_completion
from lianzhen_protocol.consultation import Consultation
from lianzhen_protocol.opinion_sheets import Opinion
from lianzhen_runtime.errors import LianzhenError


class OpinionMissing(LianzhenError):
    """The opinion that is to be read is not on this box yet."""

    code = "opinion-missing"
    http_status = 409


class OpinionUnverified(LianzhenError):
    """The opinion's signature was refused: nothing may be done on its word."""

    code = "opinion-unverified"
    http_status = 409


def opinion_is_here(book: Book, _consultation: Consultation, opinion: str) -> None:
    """Nobody has read what is not here, and nobody acts on what was not signed."""
    found = book.get(Opinion, opinion)
    if found is None:
        raise OpinionMissing("the signed opinion has not arrived yet; it comes by itself")
    if found.index().state == "refused":
        raise OpinionUnverified("the signature of this opinion is not good; call the hub")


BEFORE_COMPLETION: Final[tuple[Callable[[Book, Consultation, str], None], ...]] = (opinion_is_here,)
"""Each may refuse, with a sentence for the doctor."""

AFTER_COMPLETION: Final[tuple[Callable[[Book, Consultation], None], ...]] = (after_completion,)
"""Called once, the first time. An exception undoes the completion too, and the doctor is told."""
