"""The wearables' part of a box: listener, ingress and watch, put together once."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from lianzhen_edge.appliance.browser_trust import BrowserAuthority
from lianzhen_edge.appliance.clock import TrustedClock
from lianzhen_edge.journal.book import Book
from lianzhen_edge.journal.errors import JournalError
from lianzhen_edge.journal.journal import Journal
from lianzhen_edge.services import Service
from lianzhen_protocol.accounts import Actor
from lianzhen_runtime.errors import Unavailable
from lianzhen_runtime.web.once import Act

from . import desk
from .broker import Listeners
from .desk import Credentials
from .gather import keep_minutes
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
        yield Service("minutes", lambda: keep_minutes(self._journal(), self._now_ms))
        if self.listeners.port or self.listeners.plain:
            # A port that is taken is no reason to stop the box: the device page says so.
            yield Service("wearables-broker", self.listener.run, (*_FAULTS, Unavailable))
            yield Service("wearables", self._listen)
            yield Service("wearables-certificate", self.listener.keep_certificate)

    async def add(self, name: str, actor: Actor, act: Act | None = None) -> Credentials | None:
        """Let a device in; it may connect when this returns. None: ``act`` has done so before."""
        fresh: list[Credentials] = []

        def work(book: Book) -> None:
            fresh.append(desk.add_device(book, name, actor))

        act = act or Act()
        await act.do(self._journal().transact, work, type(None))
        await self.listener.reload()
        return None if act.again else fresh[-1]

    async def revoke(self, device: str, actor: Actor, act: Act | None = None) -> None:
        """Shut a device out; its session has ended when this returns."""
        await (act or Act()).do(
            self._journal().transact,
            lambda book: desk.revoke_device(book, device, actor),
            type(None),
        )
        await self.listener.reload()

    @property
    def problem(self) -> str:
        """Why no reading is stored just now, for everybody who waits for one; "" if they are."""
        found = self._ingress.problem if self._ingress else ""
        return found or self.listener.problem

    async def _listen(self) -> None:
        ingress = self._ingress = Ingress(self._journal(), self._now_ms)
        async with self.listener.session(ingress.heard) as session:
            await ingress.run(session)

    def _now_ms(self) -> int:
        return self._clock.now_ms
