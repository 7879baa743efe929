"""The time as the box trusts it, on hardware that may wake up in 1970.

A date that nobody vouches for can only move the clock forward, at start: to the newest of the
program's build, the last saved time and the system's clock. From there it runs on the monotonic
clock, and only the hub's word, authenticated, moves it: either way.
"""

import asyncio
import contextlib
import time
from pathlib import Path
from typing import Final

from lianzhen_runtime.files import write_durably
from lianzhen_runtime.log import Log
from lianzhen_runtime.tls import Clock

SAVE_SECONDS: Final = 600.0
_log = Log("lianzhen.clock")


class TrustedClock:
    """``folder`` keeps the last saved time. ``build_ms``: when this software was made."""

    def __init__(
        self,
        folder: Path,
        build_ms: int,
        system: Clock = time.time,
        monotonic: Clock = time.monotonic,
    ) -> None:
        self._file = folder / "clock"
        self._system = system
        self._monotonic = monotonic
        floor = max(build_ms / 1000, self._saved(), system())
        self._base = floor - monotonic()

    def now(self) -> float:
        """Seconds since 1970, UTC."""
        return self._base + self._monotonic()

    @property
    def now_ms(self) -> int:
        """Milliseconds since 1970, UTC."""
        return int(self.now() * 1000)

    @property
    def offset(self) -> float:
        """Seconds by which this clock is ahead of the system's."""
        return self.now() - self._system()

    def learn(self, now_ms: int) -> None:
        """Take over an authenticated time. It was true when it was signed, so it is at worst late
        by the way it travelled.
        """
        self._base = now_ms / 1000 - self._monotonic()

    def save(self) -> None:
        """Keep the time as the floor of the next start. OSError as the file system gives it."""
        write_durably(self._file, str(self.now_ms).encode())

    async def keep(self, every_s: float = SAVE_SECONDS) -> None:
        """Save now and then, for ever. A disk that refuses costs only the floor."""
        while True:
            try:
                await asyncio.to_thread(self.save)
            except OSError as error:
                _log.transition("clock", "cannot be saved", bad=True, reason=error.strerror)
            else:
                _log.transition("clock", "saved")
            await asyncio.sleep(every_s)

    def _saved(self) -> float:
        # Missing, or a card that lost it: then the other two make the floor.
        with contextlib.suppress(OSError, ValueError):
            return int(self._file.read_bytes()) / 1000
        return 0.0
