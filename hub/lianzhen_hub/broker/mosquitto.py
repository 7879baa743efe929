"""mosquitto as a child of the hub: started, listened to, told of revocations, never left behind.

The broker dies with the hub (PR_SET_PDEATHSIG through setpriv) and holds nothing that anybody
relies on. Where the hub is root, setpriv changes the user *before* mosquitto starts: the death
signal is forgotten by the kernel when a process changes its own user.
"""

import asyncio
import contextlib
import math
import os
import pwd
import resource
import shutil
import signal
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from lianzhen_hub.fleet.authority import Authority
from lianzhen_protocol.identity import HUB_NAME
from lianzhen_runtime import mqtt, tls
from lianzhen_runtime.errors import Unavailable
from lianzhen_runtime.files import PRIVATE, private_folder, write_durably
from lianzhen_runtime.log import Log

from .configuration import (
    ACL,
    CA,
    CONFIGURATION,
    CRL,
    SERVER,
    BrokerSettings,
    access_list,
    configuration,
)
from .journal import Sessions

_STEP_SECONDS: Final = 10.0
_KICK_SECONDS: Final = 5.0
_KICK_ROUNDS: Final = 3
_PORT_PAUSES: Final = (0.2, 0.5, 1.0)
_LINE_BYTES: Final = 1 << 18
_SYSTEM_PATH: Final = "/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
_log = Log("lianzhen.broker")


class BrokerDied(OSError):
    """The broker ended, though nobody asked it to. A supervisor starts it again."""

    code = "broker-died"


class PortTaken(Unavailable):
    """Another program listens where the broker should."""

    code = "port-taken"


class Broker:
    """One mosquitto. ``run`` is a service for ``supervised``; it waits for the first ``reload``.

    Its loop must live as long as the program: the child dies with the thread that started it.
    ``names`` are further names of the hub's server certificate (``Authority.issue_hub``).
    """

    def __init__(
        self,
        folder: Path,
        settings: BrokerSettings,
        authority: Authority,
        *,
        names: Sequence[str] = (),
        clock: tls.Clock = time.time,
    ) -> None:
        self._folder = folder
        self._settings = settings
        self._authority = authority
        self._names = tuple(names)
        self._clock = clock
        self._crl = b""
        self._crl_at = -math.inf
        self._denied: frozenset[str] = frozenset()
        self._process: asyncio.subprocess.Process | None = None
        self._complaint = ""
        self._reloading = asyncio.Lock()
        self._prepared = asyncio.Event()
        self._running = asyncio.Event()
        self._reloaded = asyncio.Event()
        self.sessions = Sessions()

    @property
    def pid(self) -> int | None:
        """Process id of the running broker."""
        return self._process.pid if self._process is not None else None

    @property
    def crl_age_s(self) -> float:
        """Seconds since the revocation list in use was made; infinite before the first."""
        return time.monotonic() - self._crl_at

    @property
    def address(self) -> mqtt.Address:
        """Where the hub's own sessions connect to."""
        own = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104
        host = own.get(self._settings.address, self._settings.address)
        return mqtt.Address(host, self._settings.port)

    async def started(self) -> None:
        """Return when the broker takes connections."""
        await self._running.wait()

    async def run(self) -> None:
        """Hold a broker until it dies (BrokerDied) or cannot start (Unavailable).

        A port that is taken is asked for again: the broker of a hub that was killed a moment ago
        may still be on its way out.
        """
        await self._prepared.wait()
        for pause in _PORT_PAUSES:
            try:
                await self._hold()
            except PortTaken:
                await asyncio.sleep(pause)
        await self._hold()

    async def _hold(self) -> None:
        async with self._reloading:
            command = self._command()
            await asyncio.to_thread(self._write_files)
            self.sessions, self._complaint = Sessions(), ""
            self._process = process = await asyncio.create_subprocess_exec(
                *command,
                cwd=self._folder,
                env={"PATH": _SYSTEM_PATH, "LC_ALL": "C"},
                start_new_session=True,  # a Ctrl-C at the hub is for the hub
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

    async def reload(self, crl: bytes, denied: Iterable[str]) -> None:
        """Put a revocation list (PEM) and the denied nodes into force, also at the next start.

        When this returns, every new connection is judged by them. TimeoutError if the broker
        does not react. Live sessions of a revoked certificate stay: ``kick`` them.
        """
        async with self._reloading:
            self._crl, self._denied = crl, frozenset(denied)
            await asyncio.to_thread(self._write_files)
            self._prepared.set()
            process = self._process
            if process is not None:
                async with asyncio.timeout(_STEP_SECONDS):
                    await self._hang_up(process)
            self._crl_at = time.monotonic()

    async def kick(self, node: str) -> int:
        """End every live session of a node; the number of sessions ended.

        The hub connects under the session's client id, and the broker drops the older session
        (MQTT 5, 3.1.4-3). Client ids are random, so no other box can do the same.
        """
        ended = 0
        for _ in range(_KICK_ROUNDS):
            clients = self.sessions.clients(node)
            if not clients:
                break
            for client in clients:
                await self._take_over(client)
                ended += 1
        if ended:
            _log.info("sessions ended", node=node, count=ended)
        return ended

    # -- inside

    async def _take_over(self, client: str) -> None:
        identity = self._authority.hub_client().path
        context = tls.client_context(
            self._authority.ca_pem, self._clock, HUB_NAME, (identity, identity)
        )
        async with (
            asyncio.timeout(_KICK_SECONDS),
            mqtt.session(self.address, client, context, lambda _topic, _payload: None),
        ):
            pass

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
        if process.returncode is None and self._process is process:
            self._reloaded.clear()
            process.send_signal(signal.SIGHUP)
            await self._reloaded.wait()

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        """Read the log to its end, so that the pipe never fills."""
        if process.stderr is None:
            raise RuntimeError("a child without the pipe that was asked for")
        async for raw in process.stderr:
            line = raw.decode(errors="replace").rstrip("\n")
            self.sessions.read(line)
            if line.startswith("mosquitto version") and line.endswith(" running"):
                self._running.set()
                _log.info("broker runs", pid=process.pid, port=self._settings.port)
            elif line == "Reloading config.":
                self._reloaded.set()
            elif line.startswith(("Error", "Warning", "setpriv:", "prlimit:")):
                self._complaint = line
                _log.warning("broker complains", reason=line[:200])

    def _cannot_start(self) -> Unavailable:
        if "Address already in use" in self._complaint:
            return PortTaken(
                f"port {self._settings.port} is taken by another program; "
                "stop that program or choose another port for the broker"
            )
        return Unavailable(f"mosquitto does not start: {self._complaint or 'it says nothing'}")

    def _command(self) -> list[str]:
        # A connection is an open file, and the usual soft limit of 1024 is only 500 boxes.
        _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
        command = [_program("prlimit", "util-linux"), f"--nofile={files}:{files}"]
        command += [_program("setpriv", "util-linux"), "--pdeathsig", "KILL", "--no-new-privs"]
        if (owner := self._owner()) is not None:
            ids = (str(owner.pw_uid), str(owner.pw_gid))
            command += ["--reuid", ids[0], "--regid", ids[1], "--clear-groups"]
        return [*command, "--", _program("mosquitto", "mosquitto"), "-c", CONFIGURATION]

    def _owner(self) -> pwd.struct_passwd | None:
        """Whom the broker runs as; None where the hub is no root and it runs as the hub does."""
        if os.geteuid() != 0:
            return None
        try:
            return pwd.getpwnam(self._settings.user)
        except KeyError as error:
            name = self._settings.user
            raise Unavailable(f"there is no user {name}, whom the broker runs as") from error

    def _write_files(self) -> None:
        """All of its files, each whole. The broker may read them, and change none of them."""
        owner, mode = self._owner(), PRIVATE
        private_folder(self._folder)
        if owner is not None:
            os.chown(self._folder, -1, owner.pw_gid)
            self._folder.chmod(0o2750)  # what is written here gets the folder's group
            mode = 0o640
        server = self._authority.issue_hub(self._names).path
        for name, content in (
            (CA, self._authority.ca_pem.encode()),
            (SERVER, server.read_bytes()),
            (CRL, self._crl),
            (ACL, access_list(self._denied).encode()),
            (CONFIGURATION, configuration(self._settings).encode()),
        ):
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
