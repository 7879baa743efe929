"""Which experts are at their console: a page of theirs is open, or they asked for the inbox lately.

Nothing of it is kept: a hub that starts again learns within seconds who is there, as open pages
connect again by themselves.
"""

from collections.abc import Callable
from typing import Final

LATELY_MS: Final = 60_000
"""For programs, which hold no page open: asking for the inbox counts for so long."""


class Presence:
    """Use it on the event loop only."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._pages: frozenset[str] = frozenset()
        self._asked: dict[str, int] = {}
        self._listeners: list[Callable[[], None]] = []

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` when somebody comes or goes."""
        self._listeners.append(listener)

    def pages(self, accounts: frozenset[str]) -> None:
        """Whose pages are open now."""
        if accounts != self._pages:
            self._pages = accounts
            self._tell()

    def asked(self, account: str) -> None:
        """Somebody asked for the inbox."""
        new = account not in self.online()
        self._asked[account] = self._now_ms()
        if new:
            self._tell()

    def online(self) -> frozenset[str]:
        """Accounts that are there."""
        since = self._now_ms() - LATELY_MS
        self._asked = {account: at for account, at in self._asked.items() if at > since}
        return self._pages | self._asked.keys()

    def _tell(self) -> None:
        for listener in self._listeners:
            listener()
