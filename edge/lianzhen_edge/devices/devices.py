"""The wearables' part of a box: listener, ingress and watch, put together once."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from lianzhen_edge.appliance.browser_trust import BrowserAuthority
from lianzhen_edge.appliance.clock import TrustedClock
from lianzhen_edge.journal.errors import JournalError
from lianzhen_edge.journal.journal import Journal
from lianzhen_edge.services import Service
from lianzhen_protocol.accounts import Actor
from lianzhen_runtime.errors import Unavailable

from . import desk
from .broker import Listeners
from .desk import Credentials
from .ingress import Ingress
from .listener import Listener
from .watch import watch

_FAULTS: Final = (OSError, TimeoutError)


class Devices:
    """``services`` run it; what people do comes in by the other methods."""

    def __init__(
        self,
        folder: Path,
        listeners: Listeners,
        journal: Callable[[], Journal],
        authority: BrowserAuthority,
        clock: TrustedClock,
    ) -> None:
        self._journal = journal
        self._clock = clock
        self.listeners = listeners
        self._ingress: Ingress | None = None
        self.listener = Listener(folder, listeners, lambda: journal().sheets, authority, clock)

    def services(self) -> Iterable[Service]:
        """Alarms are watched also where no device may come."""
        yield Service("alarms", lambda: watch(self._journal()), (JournalError,))
        if self.listeners.port or self.listeners.plain:
            # A port that is taken is no reason to stop the box: the device page says so.
            yield Service("wearables-broker", self.listener.run, (*_FAULTS, Unavailable))
            yield Service("wearables", self._listen)
            yield Service("wearables-certificate", self.listener.keep_certificate)

    async def add(self, name: str, actor: Actor) -> Credentials:
        """Let a device in; it may connect when this returns."""
        made = await self._journal().transact(lambda book: desk.add_device(book, name, actor))
        await self.listener.reload()
        return made

    async def revoke(self, device: str, actor: Actor) -> None:
        """Shut a device out; its session has ended when this returns."""
        await self._journal().transact(lambda book: desk.revoke_device(book, device, actor))
        await self.listener.reload()

    @property
    def problem(self) -> str:
        """Why no reading is stored just now, for everybody who waits for one; "" if they are."""
        found = self._ingress.problem if self._ingress else ""
        return found or self.listener.problem

    async def _listen(self) -> None:
        ingress = self._ingress = Ingress(self._journal(), lambda: self._clock.now_ms)
        async with self.listener.session(ingress.heard) as session:
            await ingress.run(session)
