"""One session that comes back for ever: ``protocol.retry`` says when, this waits and is woken."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable

from lianzhen_protocol.retry import Redial
from lianzhen_runtime.log import Log
from lianzhen_runtime.mqtt import LinkLost

_log = Log("lianzhen.uplink")


class Dialling:
    """``run`` holds ``session`` (which ends only by a fault of the line) again and again.

    At first and while the hub is not to be reached, a bare TCP connection goes ahead (``probe``):
    it is given up sooner than a session, at once if the program ends, and costs a hub that is just
    coming back next to nothing.
    """

    def __init__(
        self,
        name: str,
        session: Callable[[], Awaitable[None]],
        probe: Callable[[], Awaitable[None]],
    ) -> None:
        self._name = name
        self._session, self._probe = session, probe
        self._redial = Redial()
        self._reached = False
        self._sooner = asyncio.Event()

    def worked(self) -> None:
        """The hub answered."""
        self._redial.worked()

    def line_is_back(self) -> None:
        """There may be a way again."""
        self._redial.line_is_back(time.monotonic(), _unit())
        self._sooner.set()

    def hurry(self) -> None:
        """Something urgent waits."""
        self._redial.hurry()
        self._sooner.set()

    async def run(self) -> None:
        """For ever. All but OSError and TimeoutError ends the program."""
        while True:
            try:
                if not self._reached:
                    await self._probe()
                    self._reached = True
                await self._session()
            except (OSError, TimeoutError) as fault:
                self._reached = not isinstance(fault, LinkLost) or fault.reached
                self._redial.ended(time.monotonic(), _unit(), reached=self._reached)
                _log.transition(
                    f"dialling {self._name}", "failed, will retry",
                    bad=True, error=type(fault).__name__, code=getattr(fault, "code", None),
                )  # fmt: skip
            await self._pause()

    async def _pause(self) -> None:
        while (left := self._redial.due - time.monotonic()) > 0:
            self._sooner.clear()
            try:
                async with asyncio.timeout(left):
                    await self._sooner.wait()
            except TimeoutError:
                return


def _unit() -> float:
    return random.random()  # noqa: S311 - not a secret
