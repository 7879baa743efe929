"""Carries who is out from the fleet's tables to the broker, and on to live sessions.

The list is made anew every hour although it is good for eight days: a broker whose list has run
out refuses the whole fleet. The tables are also looked at every few seconds, since an admin's
command may have changed them from another process.
"""

import asyncio
import contextlib
from typing import Final

from lianzhen_hub.fleet.authority import Authority
from lianzhen_hub.fleet.fleet import Fleet, Outcasts

from .external import ExternalBroker
from .mosquitto import Broker

REISSUE_SECONDS: Final = 3600.0
POLL_SECONDS: Final = 5.0


class Gate:
    """The revocation list's keeper. ``run`` is a service for ``supervised``."""

    def __init__(
        self,
        fleet: Fleet,
        authority: Authority,
        broker: Broker | ExternalBroker,
        *,
        reissue_s: float = REISSUE_SECONDS,
        poll_s: float = POLL_SECONDS,
    ) -> None:
        self._fleet = fleet
        self._authority = authority
        self._broker = broker
        self._reissue_s = reissue_s
        self._poll_s = poll_s
        self._applied = Outcasts(frozenset(), ())
        self._stepping = asyncio.Lock()

    async def run(self) -> None:
        """Keep broker and tables in step, for ever."""
        while True:
            self._fleet.changed.clear()
            await self.step()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(self._poll_s, self._reissue_s)):
                    await self._fleet.changed.wait()

    async def step(self) -> None:
        """Bring the broker up to the tables; when this returns, who is out is out.

        A node with a newly dead certificate loses all its sessions: after a renewal the box
        comes back at once with its new one, and a copy of its card does not.
        """
        async with self._stepping:
            found = await self._fleet.sync()
            if found == self._applied and self._broker.crl_age_s < self._reissue_s:
                return
            crl = self._authority.revocation_list((serial, at) for serial, _, at in found.serials)
            await self._broker.reload(crl, found.nodes)
            known = {serial for serial, _, _ in self._applied.serials}
            dead = {node for serial, node, _ in found.serials if serial not in known}
            for node in sorted(dead | (found.nodes - self._applied.nodes)):
                await self._broker.kick(node)
            self._applied = found

    async def revoke(self, node: str, reason: str) -> None:
        """End a node: when this returns it is neither connected nor can it come back."""
        await self._fleet.revoke(node, reason)
        await self.step()
