"""The console's door to the hub's database: accounts and sessions are sheets like all else."""

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from lianzhen_hub.page import HubPage
from lianzhen_protocol.accounts import PEOPLE, Account, AccountChanged, settle
from lianzhen_protocol.sheets import Sheets
from lianzhen_runtime.web.store import Pen

if TYPE_CHECKING:
    from lianzhen_hub.hub import Hub

T = TypeVar("T")


class HubStore:
    """Accounts of clinics that are changed here go down to their box in the same commit."""

    def __init__(self, hub: "Hub") -> None:
        self._hub = hub

    async def read(self, ask: Callable[[Sheets], T]) -> T:
        """On a reader's snapshot."""
        return await self._hub.consult(ask)

    async def write(self, work: Callable[[Pen], T]) -> T:
        """In one transaction on the writer's thread."""

        def working(page: HubPage) -> T:
            def tell(account: Account, by: str) -> None:
                found = settle(page, account)
                if found.node:
                    page.send(found.node, PEOPLE, AccountChanged(account=found, by=by))

            return work(Pen(page, tell))

        return await self._hub.transact(working)
