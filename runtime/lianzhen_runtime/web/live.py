"""One stream of server-sent events a page, with a history for whoever was cut off.

Each event goes to the roles (or the persons) that it is for. Its id names the run of the program
and its number; a browser that comes back with the id of another run, or one too old, is told to
load everything anew. Whoever listens is asked again and again whether they are still signed in.
"""

import asyncio
import contextlib
import secrets
import socket
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

import msgspec
from aiohttp import web

from lianzhen_protocol.accounts import STAFF, Actor, Role

HISTORY: Final = 500
BEAT_SECONDS: Final = 10.0
SOON_SECONDS: Final = 0.3
_SILENCE_MS: Final = 20_000
_encoder = msgspec.json.Encoder()


class _Event(NamedTuple):
    number: int
    kind: str
    data: bytes
    roles: frozenset[Role]
    people: frozenset[str] | None

    def concerns(self, actor: Actor) -> bool:
        if self.people is not None:
            return actor.id in self.people
        return not self.roles.isdisjoint(actor.roles)


class Told(msgspec.Struct, frozen=True):
    """An event as a page that asks is told it; ``data`` is JSON, as in the stream."""

    id: str
    kind: str
    data: str


class Live:
    """What a console tells its pages. Use it on the event loop only."""

    def __init__(self) -> None:
        self._run = secrets.token_hex(4)
        self._events: deque[_Event] = deque(maxlen=HISTORY)
        self._last = 0
        self._bells: set[asyncio.Event] = set()
        self._present: dict[asyncio.Event, str] = {}
        self._watchers: list[Callable[[frozenset[str]], None]] = []
        self._closed = False
        self._soon: set[str] = set()

    def tell(
        self,
        kind: str,
        value: object = None,
        roles: frozenset[Role] = STAFF,
        people: frozenset[str] | None = None,
    ) -> None:
        """An event for everybody in ``roles``, or for the accounts ``people`` alone."""
        self._last += 1
        self._events.append(_Event(self._last, kind, _encoder.encode(value), roles, people))
        self.wake()

    def tell_soon(self, kind: str, roles: frozenset[Role] = STAFF) -> None:
        """The same for what comes in bursts: many in a moment are one event, a little later."""
        if kind not in self._soon:
            self._soon.add(kind)

            def now() -> None:
                self._soon.discard(kind)
                self.tell(kind, roles=roles)

            asyncio.get_running_loop().call_later(SOON_SECONDS, now)

    @property
    def position(self) -> str:
        """The last event's id: a page that is made now has seen everything up to it."""
        return f"{self._run}-{self._last}"

    def wake(self) -> None:
        """Have every listener look again whether it is still welcome."""
        for bell in self._bells:
            bell.set()

    def on_presence(self, watcher: Callable[[frozenset[str]], None]) -> None:
        """Call ``watcher`` with the accounts that have a page open, when somebody comes or goes."""
        self._watchers.append(watcher)

    def _is_here(self, bell: asyncio.Event, account: str | None) -> None:
        before = frozenset(self._present.values())
        if account is None:
            self._present.pop(bell, None)
        else:
            self._present[bell] = account
        if (now := frozenset(self._present.values())) != before:
            for watcher in self._watchers:
                watcher(now)

    def close(self) -> None:
        """End every stream: the program ends."""
        self._closed = True
        self.wake()

    async def serve(
        self, request: web.Request, welcome: Callable[[], Awaitable[Actor | None]]
    ) -> web.StreamResponse:
        """Answer with events until the browser goes, or ``welcome`` gives nobody."""
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"}
        )
        response.enable_compression(web.ContentCoding.identity)
        await response.prepare(request)
        _give_up_soon(request)
        bell = asyncio.Event()
        self._bells.add(bell)
        try:
            # A browser that hangs up is no fault of anybody.
            with contextlib.suppress(ConnectionError):
                await self._converse(request, response, bell, welcome)
        finally:
            self._bells.discard(bell)
            self._is_here(bell, None)
        return response

    async def _converse(
        self,
        request: web.Request,
        response: web.StreamResponse,
        bell: asyncio.Event,
        welcome: Callable[[], Awaitable[Actor | None]],
    ) -> None:
        after = request.headers.get("Last-Event-ID", request.query.get("after", ""))
        seen = self._begin(after)
        await response.write(b"retry: 2000\n\n")
        if seen is None:
            seen = self._last
            await response.write(self._frame(seen, "reset", b"null"))
        while not self._closed and (actor := await welcome()) is not None:
            self._is_here(bell, actor.id)
            bell.clear()
            for event in [event for event in self._events if event.number > seen]:
                seen = event.number
                if event.concerns(actor):
                    await response.write(self._frame(event.number, event.kind, event.data))
            try:
                await asyncio.wait_for(bell.wait(), BEAT_SECONDS)
            except TimeoutError:
                await response.write(b": beat\n\n")

    def _begin(self, last: str) -> int | None:
        """The number from which to go on; None if the browser must load everything anew."""
        if not last:
            return self._last
        run, _, number = last.partition("-")
        oldest = self._events[0].number if self._events else self._last + 1
        if run != self._run or not number.isdecimal() or int(number) + 1 < oldest:
            return None
        return int(number)

    def since(self, last: str, actor: Actor) -> list[Told] | None:
        """What ``actor`` would have been told since a position; None: load everything anew."""
        seen = self._begin(last)
        if seen is None:
            return None
        return [
            Told(id=f"{self._run}-{event.number}", kind=event.kind, data=event.data.decode())
            for event in self._events
            if event.number > seen and event.concerns(actor)
        ]

    def _frame(self, number: int, kind: str, data: bytes) -> bytes:
        return b"id: %s-%d\nevent: %s\ndata: %s\n\n" % (
            self._run.encode(),
            number,
            kind.encode(),
            data,
        )


def _give_up_soon(request: web.Request) -> None:
    """A browser that vanished (no power, no line) acknowledges no beat: it is not here for long."""
    transport = request.transport
    raw = transport.get_extra_info("socket") if transport else None
    if raw is not None:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _SILENCE_MS)
