"""A program of ours as a child of another: started, started again, and never left behind.

The kernel ends the child with its parent (PR_SET_PDEATHSIG, through setpriv), so its loop must
live as long as the program: the signal follows the thread that started the child. A parent that
dies before the child has asked for that signal would leave it behind, so the child looks whose it
is, once it has asked, and only then begins.
"""

import asyncio
import contextlib
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import Final

from .errors import Unavailable
from .log import Log

_STEP_SECONDS: Final = 10.0
_IF_STILL_OURS: Final = '[ "$PPID" = "$0" ] && exec "$@"'
_log = Log("lianzhen.child")


def still_ours(command: Sequence[str]) -> list[str]:
    """Words that run ``command`` only as a child of this process; to stand behind setpriv's."""
    return ["/bin/sh", "-c", _IF_STILL_OURS, str(os.getpid()), *command]


def dying_with_us(command: Sequence[str]) -> list[str]:
    """Words that run ``command`` until it ends, or we do, also while it is stopped. Unavailable."""
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise Unavailable("setpriv is not installed; install the package util-linux")
    return [setpriv, "--pdeathsig", "KILL", "--", *still_ours(command)]


class ChildDied(OSError):
    """It ended, though nobody asked it to. A supervisor starts it again."""

    code = "child-died"


class Child:
    """One child. ``run`` is a service for ``supervised``: ChildDied when it ends by itself.

    Its standard error is ours: it logs as we do.
    """

    def __init__(
        self, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self._command = command
        self._environment = environment
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._process.pid if self._process is not None else None

    async def run(self) -> None:
        """Hold the child until it dies; cancelled, end it."""
        self._process = process = await asyncio.create_subprocess_exec(
            *dying_with_us(self._command),
            env=self._environment,
            start_new_session=True,  # a Ctrl-C at the parent is for the parent
            stdin=asyncio.subprocess.DEVNULL,
        )
        _log.info("child runs", service=self.name, pid=process.pid)
        try:
            status = await process.wait()
        finally:
            self._process = None
            await _end(process)
        raise ChildDied(f"{self.name} ended with status {status}")


def own_command(module: str, *arguments: str) -> list[str]:
    """The command line of one of our programs, by the interpreter that runs us."""
    return [sys.executable, "-m", module, *arguments]


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(_STEP_SECONDS):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
