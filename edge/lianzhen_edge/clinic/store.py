"""The console's door to the journal: accounts and sessions are sheets like all else."""

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from lianzhen_edge.journal.book import Book
from lianzhen_protocol.accounts import PEOPLE, Account, AccountChanged
from lianzhen_protocol.sheets import Sheets
from lianzhen_runtime.web.store import Pen

if TYPE_CHECKING:
    from lianzhen_edge.box import Box

T = TypeVar("T")


class ClinicStore:
    """NotEnrolled or NotReady while the box has no journal."""

    def __init__(self, box: "Box") -> None:
        self._box = box

    async def read(self, ask: Callable[[Sheets], T]) -> T:
        """From memory-mapped pages on this machine: it does not wait for anything."""
        return ask(self._box.journal.sheets)

    async def write(self, work: Callable[[Pen], T]) -> T:
        """In the journal's own transaction, with the record that goes up."""

        def working(book: Book) -> T:
            def tell(account: Account, by: str) -> None:
                book.write(PEOPLE, AccountChanged(account=account, by=by))

            return work(Pen(book, tell))

        return await self._box.journal.transact(working)
