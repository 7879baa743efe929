"""mosquitto as a child of ours: started, listened to, told of new files, never left behind.

The broker dies with its parent (PR_SET_PDEATHSIG through setpriv) and holds nothing that anybody
relies on. Where we are root, setpriv changes the user *before* mosquitto starts: the death
signal is forgotten by the kernel when a process changes its own user.
"""

import asyncio
import contextlib
import os
import pwd
import resource
import shutil
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from .broker_log import Sessions
from .child import still_ours
from .errors import Unavailable
from .files import PRIVATE, private_folder, write_durably
from .log import Log

CONFIGURATION: Final = "mosquitto.conf"
"""The one of its files that every broker has."""

_STEP_SECONDS: Final = 10.0
_LOST_SECONDS: Final = 0.5
_PORT_PAUSES: Final = (0.2, 0.5, 1.0)
_LINE_BYTES: Final = 1 << 18
_SYSTEM_PATH: Final = "/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
_log = Log("lianzhen.broker")

Files = Callable[[], Mapping[str, bytes]]
"""Makes its files, by name; ``CONFIGURATION`` names the others relative to the folder."""


class BrokerDied(OSError):
    """The broker ended, though nobody asked it to. A supervisor starts it again."""

    code = "broker-died"


class PortTaken(Unavailable):
    """Another program listens where the broker should."""

    code = "port-taken"


class Mosquitto:
    """One mosquitto. ``run`` is a service for ``supervised``.

    Its loop must live as long as the program: the child dies with the thread that started it.
    ``user`` is whom it runs as where we are root.
    """

    def __init__(self, folder: Path, files: Files, *, port: int, user: str) -> None:
        self._folder = folder
        self._files = files
        self._port = port
        self._user = user
        self._process: asyncio.subprocess.Process | None = None
        self._complaint = ""
        self._writing = asyncio.Lock()
        self._running = asyncio.Event()
        self._reloaded = asyncio.Event()
        self.sessions = Sessions()

    @property
    def pid(self) -> int | None:
        """Process id of the running broker."""
        return self._process.pid if self._process is not None else None

    async def started(self) -> None:
        """Return when the broker takes connections."""
        await self._running.wait()

    async def run(self) -> None:
        """Hold a broker until it dies (BrokerDied) or cannot start (Unavailable).

        A port that is taken is asked for again: the broker of a program that was killed a moment
        ago may still be on its way out.
        """
        for pause in _PORT_PAUSES:
            try:
                await self._hold()
            except PortTaken:
                await asyncio.sleep(pause)
        await self._hold()

    async def reload(self) -> None:
        """Make its files anew and have it read them; when this returns it goes by them.

        TimeoutError if it does not react. A broker that is not running reads them at its start.
        """
        async with self._writing:
            await asyncio.to_thread(self._write_files)
            process = self._process
            if process is not None:
                async with asyncio.timeout(_STEP_SECONDS):
                    await self._hang_up(process)

    # -- inside

    async def _hold(self) -> None:
        async with self._writing:
            command = self._command()
            await asyncio.to_thread(self._write_files)
            self.sessions, self._complaint = Sessions(), ""
            self._process = process = await asyncio.create_subprocess_exec(
                *command,
                cwd=self._folder,
                env={"PATH": _SYSTEM_PATH, "LC_ALL": "C"},
                start_new_session=True,  # a Ctrl-C at the parent is for the parent
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                limit=_LINE_BYTES,
            )
        try:
            await self._listen(process)
            status = await process.wait()
            was_running = self._running.is_set()
        finally:
            self._process = None
            self._running.clear()
            self._reloaded.set()  # whoever waits: the next start reads the same files
            await _end(process)
        if not was_running and status >= 0:  # else somebody killed it before it was ready
            raise self._cannot_start()
        raise BrokerDied(f"the broker ended with status {status}: {self._complaint}".rstrip(": "))

    async def _hang_up(self, process: asyncio.subprocess.Process) -> None:
        """SIGHUP, and wait until the broker says that it took it. It is single-threaded: whatever
        it does after that line it does under the new files.
        """
        # Before it runs it has no handler, and the signal would end it.
        async with asyncio.TaskGroup() as both:
            waiting = both.create_task(self._running.wait())
            ending = both.create_task(process.wait())
            await asyncio.wait({waiting, ending}, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            ending.cancel()
        self._reloaded.clear()
        sent = 0
        # Its flag is cleared when it has read its files: a signal that comes while it still reads
        # those of the last reload is lost, and is given again.
        while not self._reloaded.is_set() and process.returncode is None:
            process.send_signal(signal.SIGHUP)
            sent += 1
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._reloaded.wait(), _LOST_SECONDS)
        if sent > 1:  # one that was only slow is still to come, and would answer for the next
            await asyncio.sleep(_LOST_SECONDS)

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        """Read the log to its end, so that the pipe never fills."""
        if process.stderr is None:
            raise RuntimeError("a child without the pipe that was asked for")
        async for raw in process.stderr:
            line = raw.decode(errors="replace").rstrip("\n")
            self.sessions.read(line)
            if line.startswith("mosquitto version") and line.endswith(" running"):
                self._running.set()
                _log.info("broker runs", pid=process.pid, port=self._port)
            elif line == "Reloading config.":
                self._reloaded.set()
            elif line.startswith(("Error", "Warning", "setpriv:", "prlimit:")):
                self._complaint = line
                _log.warning("broker complains", reason=line[:200])

    def _cannot_start(self) -> Unavailable:
        if "Address already in use" in self._complaint:
            return PortTaken(
                f"port {self._port} is taken by another program; "
                "stop that program or choose another port for the broker"
            )
        return Unavailable(f"mosquitto does not start: {self._complaint or 'it says nothing'}")

    def _command(self) -> list[str]:
        # A connection is an open file, and the usual soft limit of 1024 is only 500 clients.
        _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
        command = [_program("prlimit", "util-linux"), f"--nofile={files}:{files}"]
        command += [_program("setpriv", "util-linux"), "--pdeathsig", "KILL", "--no-new-privs"]
        if (owner := self._owner()) is not None:
            ids = (str(owner.pw_uid), str(owner.pw_gid))
            command += ["--reuid", ids[0], "--regid", ids[1], "--clear-groups"]
        program = [_program("mosquitto", "mosquitto"), "-c", CONFIGURATION]
        return [*command, "--", *still_ours(program)]

    def _owner(self) -> pwd.struct_passwd | None:
        """Whom the broker runs as; None where we are no root and it runs as we do."""
        if os.geteuid() != 0:
            return None
        try:
            return pwd.getpwnam(self._user)
        except KeyError as error:
            raise Unavailable(f"there is no user {self._user}, whom the broker runs as") from error

    def _write_files(self) -> None:
        """All of its files, each whole. The broker may read them, and change none of them."""
        owner, mode = self._owner(), PRIVATE
        private_folder(self._folder)
        if owner is not None:
            os.chown(self._folder, -1, owner.pw_gid)
            self._folder.chmod(0o2750)  # what is written here gets the folder's group
            mode = 0o640
        for name, content in self._files().items():
            write_durably(self._folder / name, content, mode)


def _program(name: str, package: str) -> str:
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:{_SYSTEM_PATH}")
    if found is None:
        raise Unavailable(f"{name} is not installed; install the package {package}")
    return found


async def _end(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(_STEP_SECONDS):
            await process.communicate()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()
