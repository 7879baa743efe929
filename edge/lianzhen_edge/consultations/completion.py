"""What follows when a doctor has read the signed opinion: in the same commit, once."""

from collections.abc import Callable
from typing import Final

from lianzhen_edge.journal.book import Book
from lianzhen_edge.settlement.desk import after_completion
from lianzhen_protocol.consultation import Consultation

AFTER_COMPLETION: Final[tuple[Callable[[Book, Consultation], None], ...]] = (after_completion,)
"""Called in this order. An exception undoes the completion too, and the doctor is told."""
