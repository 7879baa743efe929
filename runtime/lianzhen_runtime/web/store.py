"""What a console needs of the program that it is part of: one door to its sheets."""

from collections.abc import Callable
from typing import Protocol, TypeVar

from lianzhen_protocol.accounts import Account
from lianzhen_protocol.audit import Action
from lianzhen_protocol.sheets import S, Sheet, Sheets

T = TypeVar("T")


class Page(Sheets, Protocol):
    """Sheets in a transaction, as the box's Book and the hub's HubPage are."""

    @property
    def now_ms(self) -> int:
        """Trusted time, UTC."""

    def new_id(self) -> str:
        """A fresh UUIDv7, 32 hexadecimal digits."""

    def audit(self, actor: str, action: Action, subject: str) -> None:
        """An audit row in the same commit."""


class Pen:
    """A page on which accounts can be changed; ``tell`` writes the record that says so."""

    def __init__(self, page: Page, tell: Callable[[Account, str], None]) -> None:
        self._page = page
        self._tell = tell
        self.now_ms = page.now_ms
        self.new_id = page.new_id

    def get(self, kind: type[S], key: str) -> S | None:
        return self._page.get(kind, key)

    def put(self, sheet: Sheet) -> None:
        self._page.put(sheet)

    def delete(self, kind: type[Sheet], key: str) -> None:
        self._page.delete(kind, key)

    def find(
        self,
        kind: type[S],
        *,
        owner: str | None = None,
        state: str | None = None,
        since_ms: int | None = None,
        limit: int = 1000,
        newest: bool = False,
    ) -> list[S]:
        return self._page.find(
            kind, owner=owner, state=state, since_ms=since_ms, limit=limit, newest=newest
        )

    def find_token(self, kind: type[S], purpose: str, value: str) -> list[S]:
        return self._page.find_token(kind, purpose, value)

    def change(self, account: Account, by: str, action: Action) -> None:
        """An account as it is from now on, by whom: sheet, record and audit row in one commit."""
        self._tell(account, by)
        self._page.audit(by, action, f"account/{account.id}")

    def look(self, actor: str, subject: str) -> None:
        """An audit row of who looked at whose data; ``subject`` is a sheet as ``kind/key``."""
        self._page.audit(actor, "read", subject)

    def note(self, account: Account, action: Action) -> None:
        """An audit row of what somebody did with their own account."""
        self._page.audit(account.id, action, f"account/{account.id}")


class Store(Protocol):
    """Both programs have one."""

    async def read(self, ask: Callable[[Sheets], T]) -> T:
        """Look something up, in one snapshot."""

    async def write(self, work: Callable[[Pen], T]) -> T:
        """Do ``work`` in a transaction of its own; it is durable when this returns."""
