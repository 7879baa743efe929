"""Services that come back after the faults they declare, and after no others."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from .log import Log
from .retry import pause

_HEALTHY_SECONDS = 60.0

_log = Log("lianzhen.supervise")


async def supervised(
    service: str,
    run: Callable[[], Awaitable[None]],
    *,
    faults: tuple[type[Exception], ...] = (OSError, TimeoutError),
    base: float = 1.0,
    cap: float = 60.0,
) -> None:
    """Run a service for ever. ``faults`` restart it, with capped, jittered backoff; all else ends
    the program, whose own supervisor (systemd) starts it again with a clean memory.
    """
    attempt = 0
    while True:
        began = time.monotonic()
        try:
            await run()
            return
        except faults as fault:
            attempt = 0 if time.monotonic() - began > _HEALTHY_SECONDS else attempt
            wait = pause(attempt, base=base, cap=cap)
            kind, code = type(fault).__name__, getattr(fault, "code", None)
            _log.transition(service, "failed, will retry", bad=True, error=kind, code=code)
            attempt += 1
            await asyncio.sleep(wait)
