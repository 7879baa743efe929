"""Issues the list of revoked certificates every hour and has every box hold it.

A new list goes to all boxes, a box that is new gets the one in use. Certificates of accounts
that were ended are revoked here, within seconds.
"""

import asyncio
import contextlib
from collections.abc import Collection
from typing import TYPE_CHECKING, Final

from lianzhen_hub.page import HubPage
from lianzhen_protocol.accounts import Account
from lianzhen_protocol.opinion_sheets import Revocations
from lianzhen_protocol.sheets import Sheets
from lianzhen_runtime.log import Log

from . import certificates

if TYPE_CHECKING:
    from lianzhen_hub.hub import Hub

REISSUE_MS: Final = 3_600_000
POLL_SECONDS: Final = 5.0
"""How soon a box that was enrolled just now is given the list."""

_WATCHED: Final = frozenset({Account.SHEET, Revocations.SHEET})
_log = Log("lianzhen.signing")


class ListKeeper:
    """``run`` is a service for ``supervised``."""

    def __init__(self, hub: "Hub") -> None:
        self._hub = hub
        self._changed = asyncio.Event()
        self._sent: dict[str, int] = {}
        """Number of the list that each box was given by this run of the hub."""
        hub.on_change(self._touched)

    async def run(self) -> None:
        """For ever."""
        self._changed.set()
        while True:
            orphans = self._changed.is_set()
            self._changed.clear()
            await self.step(orphans)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await self._changed.wait()

    async def step(self, orphans: bool = True) -> None:
        """Whatever is due now."""
        hub, nodes, sent = self._hub, self._hub.fleet.active(), self._sent

        def look(sheets: Sheets) -> bool:
            held = sheets.get(Revocations, Revocations.KEY)
            old = held is None or hub.now_ms() - held.made_ms >= REISSUE_MS
            return old or any(sent.get(node) != held.number for node in nodes if held)

        if orphans or await hub.consult(look):
            self._sent = await hub.transact(lambda page: self._work(page, nodes))

    def _work(self, page: HubPage, nodes: Collection[str]) -> dict[str, int]:
        authority = self._hub.authority
        ended = certificates.end_orphans(page, authority)
        held = page.get(Revocations, Revocations.KEY)
        if held is None or page.now_ms - held.made_ms >= REISSUE_MS:
            held = certificates.issue_list(page, authority)
        behind = [node for node in sorted(nodes) if self._sent.get(node) != held.number]
        for node in behind:
            certificates.send_list(page, node)
        if ended:
            _log.warning("certificates of ended accounts revoked", count=ended)
        return dict.fromkeys(nodes, held.number)

    def _touched(self, changed: Collection[tuple[str, str]]) -> None:
        if any(kind in _WATCHED for kind, _ in changed):
            self._changed.set()
