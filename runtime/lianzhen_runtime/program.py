"""How a program of ours lives: one root task, ended by a signal, errors as one sentence."""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable

from .errors import LianzhenError

_ENDS = (signal.SIGTERM, signal.SIGINT)


def run_program(name: str, main: Callable[[], Awaitable[None]]) -> int:
    """Run ``main`` until it ends or SIGTERM or SIGINT comes; the exit status.

    A LianzhenError ends it with its sentence on standard error; anything else is a bug and keeps
    its traceback, and whatever supervises the program starts it again.
    """

    async def root() -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        if task is not None:
            for number in _ENDS:
                loop.add_signal_handler(number, task.cancel)
        await main()

    os.umask(0o077)  # what a program leaves on the disk is its owner's, also where it says nothing
    try:
        asyncio.run(root())
    except asyncio.CancelledError:
        return 0
    except (LianzhenError, ExceptionGroup) as error:
        plain = _plain(error)
        if plain is None:
            raise
        print(f"{name}: {plain}", file=sys.stderr)  # noqa: T201 - the one sentence
        return plain.exit_status
    return 0


def _plain(error: Exception) -> LianzhenError | None:
    """The sentence that explains it all, if there is just one."""
    if isinstance(error, LianzhenError):
        return error
    if isinstance(error, ExceptionGroup):
        found = [_plain(inner) for inner in error.exceptions]
        return found[0] if all(found) else None
    return None
