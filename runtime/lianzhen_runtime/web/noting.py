"""Which looks at a page are noted in the audit log: all, but for pages that show nobody's data.

Noted by default, as denied by default: a page is left out by naming it here. What a person looks
at again within a minute, and what an open page loads anew by itself, is the same look.
"""

from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from lianzhen_protocol.accounts import Actor, Role

from .routes import Route

NOBODYS: Final = frozenset(
    {
        "account",
        "audit",  # notes itself, also what it was asked for
        "dicomweb",  # notes itself: studies and images, not each frame
        "experts",
        "fleet",
        "language",
        "ledger",
        "lianzhen-hub.pem",
        "live",
        "login",
        "logout",
        "modalities",
        "notices",
        "pay",
        "quarantine",
        "setup",
        "signers",
        "signing",
        "staff",
        "status",
        "verify",
        "wearables",
    }
)
"""First words of paths whose pages show no patient's data."""

KINDS: Final = {
    "cases": "consultation",
    "mine": "consultation",
    "printing": "opinion",
    "studies": "study",
    "tray": "item",
}
"""Kinds of sheets that ``{id}`` names where the path has another word; else it is its singular."""

AGAIN_MS: Final = 60_000
QUIET_MS: Final = 3_600_000
"""How long what a page asks for by itself belongs to the look that opened it."""

_MOST: Final = 10_000


def subject_of(route: Route, path: str, key: str, actor: Actor) -> str | None:
    """What a GET looks at: a sheet as ``kind/key``, a list as ``page/...``; None for nobody's.

    Patients see only what is their own, so their looks are at themselves.
    """
    first = path.strip("/").partition("/")[0]
    if route.method != "GET" or first in NOBODYS or not first or None in route.roles:
        return None
    if actor.patient and actor.may(Role.PATIENT):
        return f"patient/{actor.patient}"
    if not key:
        return f"page{path}"
    return f"{KINDS.get(first, first.removesuffix('s'))}/{key}"


class Looks:
    """Who looked at what a moment ago."""

    def __init__(self) -> None:
        self._last: dict[tuple[str, str], int] = {}

    def again(self, actor: str, subject: str, now_ms: int, *, quiet: bool) -> bool:
        """Whether this is the look that is noted already."""
        last = self._last.get((actor, subject))
        return last is not None and now_ms - last < (QUIET_MS if quiet else AGAIN_MS)

    async def note(
        self,
        actor: str,
        subjects: Iterable[str],
        now_ms: int,
        write: Callable[[list[str]], Awaitable[object]],
        *,
        quiet: bool,
    ) -> None:
        """Have those written that are not noted already; in the log when this returns."""
        new = [one for one in subjects if not self.again(actor, one, now_ms, quiet=quiet)]
        if new:
            await write(new)
        for one in new:
            self.noted(actor, one, now_ms)

    def noted(self, actor: str, subject: str, now_ms: int) -> None:
        """It is in the log now."""
        if len(self._last) >= _MOST:
            self._last.clear()  # then some are noted twice
        self._last[actor, subject] = now_ms
