"""A hub, boxes and a database of your own, on loopback: for the demonstration, tests and benches.

Everything is the real program, started as its own process from the folder that it is given, and
ended by pid. Nothing here is imported by the product.
"""

import contextlib
import http.client
import json
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

PATIENCE_SECONDS = 120.0
_OUR_PORTS, _A_WORKERS, _WORKERS = 12_000, 5_000, 4
"""Ports of ours, and how many of them belong to each of the processes that tests run in."""
_given: set[int] = set()
_POSTGRES = Path("/usr/lib/postgresql")
_SCRIPTS = Path(sys.executable).parent


class LabError(Exception):
    """Something in the lab did not do what it should: the text says what, with its last words."""


def wait_until(what: str, holds: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> float:
    """Look again and again until ``holds``; how long it took. LabError names ``what`` it lacked."""
    began = time.monotonic()
    while not holds():
        if time.monotonic() - began > seconds:
            raise LabError(f"after {seconds:.0f} s still not: {what}")
        time.sleep(0.02)
    return time.monotonic() - began


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now, below those that the kernel gives to outgoing connections:
    one of these may be taken before its program has started. None is given twice.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _WORKERS
    first = _OUR_PORTS + worker * _A_WORKERS
    with contextlib.ExitStack() as stack:
        found: list[int] = []
        while len(found) < count:
            opened = stack.enter_context(socket.socket())
            port = random.randrange(first, first + _A_WORKERS)  # noqa: S311 - nothing secret
            if port in _given:
                continue
            try:
                opened.bind(("127.0.0.1", port))
            except OSError:
                continue
            found.append(port)
            _given.add(port)
        return found


def at_time(offset: str) -> tuple[str, ...]:
    """Words before a command that let it live at another time (``-40d``, ``@1970-01-01 00:00:05``).

    Only the wall clock is moved, as on a box whose clock is wrong. LabError without libfaketime.
    """
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    if not found:
        raise LabError("libfaketime is not installed; install the package faketime")
    moved = (f"LD_PRELOAD={found[0]}", f"FAKETIME={offset}", "FAKETIME_DONT_FAKE_MONOTONIC=1")
    return ("env", *moved)  # not the faketime command, which stands between us and the pid


class Answer(NamedTuple):
    """What a control socket said."""

    status: int
    body: Any


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("box", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def ask(path: Path, method: str, target: str, body: bytes | None = None) -> Answer:
    """One request to a program's Unix socket. OSError or HTTPException if nobody answers."""
    connection = _UnixConnection(path)
    try:
        connection.request(method, target, body)
        answer = connection.getresponse()
        return Answer(answer.status, json.load(answer))
    finally:
        connection.close()


def peek(path: Path, target: str) -> Any:
    """What a program's Unix socket says to a GET; None while it does not answer well."""
    try:
        answer = ask(path, "GET", target)
    except (OSError, http.client.HTTPException):
        return None
    return answer.body if answer.status == 200 else None


class Program:
    """One of our programs, with its configuration file and its log."""

    name = ""

    def __init__(self, folder: Path, settings: dict[str, object]) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.state = folder / "state"
        self.log = folder / "log"
        self.config = folder / "config.toml"
        lines = {"state": str(self.state)} | settings
        self.config.write_text("".join(f"{key} = {json.dumps(v)}\n" for key, v in lines.items()))
        self.process: subprocess.Popen[bytes] | None = None
        self.prefix: Sequence[str] = ()
        """Words before the command, for faketime or strace."""

    def command(self, *verb: str) -> list[str]:
        """The program's command line with its configuration."""
        return [str(_SCRIPTS / self.name), "--config", str(self.config), *verb]

    def start(self) -> Self:
        """Start it; it answers a little later."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.prefix, *self.command("run")], stdout=log, stderr=log
            )
        return self

    @property
    def pid(self) -> int:
        """Of the running program."""
        if self.process is None:
            raise LabError(f"{self.name} was not started")
        return self.process.pid

    def running(self) -> bool:
        """True until it has ended."""
        return self.process is not None and self.process.poll() is None

    def kill(self, number: int = signal.SIGKILL) -> int:
        """Send a signal and wait for the end; the exit status. SIGKILL: no chance to tidy up."""
        if self.process is None:
            return 0
        if self.running():
            self.process.send_signal(number)
        try:
            status = self.process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired as error:
            self.process.kill()
            self.process.wait()
            raise LabError(f"{self.name} does not end on signal {number}: {self.tail()}") from error
        self.process = None
        return status

    def stop(self) -> int:
        """Ask it to end; the exit status."""
        return self.kill(signal.SIGTERM)

    def ask(self, *verb: str) -> str:
        """Run one verb of its command line and give what it prints. LabError if it fails."""
        done = subprocess.run(self.command(*verb), capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise LabError(f"{self.name} {verb[0]}: {done.stderr.strip()}")
        return done.stdout.strip()

    def json(self, *verb: str) -> Any:
        """The same for a verb with --json."""
        return json.loads(self.ask(*verb, "--json"))

    def tail(self, lines: int = 5) -> str:
        """The last words of its log."""
        found = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "\n".join(found[-lines:])


def get_json(url: str) -> Any:
    """A JSON page of a probe port, also with an error status; None while nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        return json.load(error)
    except OSError:
        return None


class HubProgram(Program):
    """A hub with free ports; ``database`` is a URL, or None for SQLite."""

    name = "lianzhen-hub"

    def __init__(self, folder: Path, database: str | None = None, **settings: object) -> None:
        self.https_port, self.mqtt_port, self.console_port, self.status_port = free_ports(4)
        self.database = database
        found: dict[str, object] = {
            "names": ["127.0.0.1"],
            "listen": "127.0.0.1",
            "https_port": self.https_port,
            "mqtt_port": self.mqtt_port,
            "console_port": self.console_port,
            "status_port": self.status_port,
        }
        if database is not None:
            found["database"] = database
        super().__init__(folder, found | settings)

    def healthy(self) -> bool:
        """The broker runs and the ingest listens."""
        found = get_json(f"http://127.0.0.1:{self.status_port}/health")
        if found is None and not self.running():
            raise LabError(f"the hub ended: {self.tail()}")
        return bool(found and found["ok"])

    def wait(self) -> Self:
        """Return when it is healthy."""
        wait_until("a healthy hub", self.healthy)
        return self

    def broker_pid(self) -> int:
        """Process id of its mosquitto."""
        found = self.json("status")["broker_pid"]
        if found is None:
            raise LabError("the broker is not running")
        return int(found)

    def counts(self, stream: str) -> dict[str, int]:
        """Records of ``stream``, over all boxes and epochs: logged, applied, held."""
        rows = [row for row in self.json("streams") if row["stream"] == stream]
        return {key: sum(row[key] for row in rows) for key in ("logged", "applied", "held")}


class BoxProgram(Program):
    """An edge box; blank until ``enrol``."""

    name = "lianzhen-edge"

    def __init__(self, folder: Path, box: str, **settings: object) -> None:
        self.box = box
        self.dicom_port = int(str(settings.get("dicom_port", 0)))
        self.status_port, self.console_port, self.setup_port = free_ports(3)
        found: dict[str, object] = {
            "listen": "127.0.0.1",
            "status_port": self.status_port,
            "console_port": self.console_port,
            "setup_port": self.setup_port,
            "dicom_port": 0,  # modalities, wearables and the model are asked for where a test or
            "device_port": 0,  # a story has some
            "triage_model": False,
        }
        found |= settings
        self.dicom_port, self.device_port = (
            int(str(found[name])) for name in ("dicom_port", "device_port")
        )
        super().__init__(folder, found)

    def answers(self) -> bool:
        """It has started: what it holds is open, and it may be asked for everything."""
        if not self.running():
            raise LabError(f"the box ended: {self.tail()}")
        found = get_json(f"http://127.0.0.1:{self.status_port}/health")
        return found is not None and found["state"] != "starting"

    def wait(self) -> Self:
        """Return when it can be asked."""
        wait_until("a box that answers", self.answers)
        return self

    def status(self) -> Any:
        """Its status; None while it does not answer. Without a process for each look."""
        return peek(self.state / "control.sock", "/status")

    def online(self) -> bool:
        """Both sessions are welcomed."""
        found = self.status()
        return bool(found) and [link["state"] for link in found["links"]] == ["online"] * 2

    def enrol(self, hub: HubProgram, clinic: str = "Township health centre") -> str:
        """Claim it at ``hub`` and wait until it is online; its node id."""
        claim = hub.ask("claim", self.box, "--clinic", clinic, "--text")
        self.wait().ask("claim", claim)
        wait_until("an enrolled box that is online", self.online)
        if self.dicom_port:
            wait_until("an open DICOM port", self.takes_images)
        return str(self.status()["node"])

    def takes_images(self) -> bool:
        """Its DICOM port is open, which its own process opens after the box itself."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.dicom_port)) == 0

    def drained(self) -> bool:
        """Nothing waits, and nothing is kept that is not safe at the hub."""
        found = self.status()
        return bool(found) and all(row["last"] == row["safe"] for row in found["streams"])


def _children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()


class Postgres:
    """A PostgreSQL of our own: a Unix socket, no port, fsync on, never as root."""

    def __init__(self) -> None:
        versions = sorted(_POSTGRES.glob("*/bin/initdb"))
        if not versions:
            raise LabError("PostgreSQL is not installed; install the package postgresql-15")
        self._programs = versions[-1].parent
        # Short, as a socket's path is at most 107 bytes; open, as its user is not ours.
        self.folder = Path(tempfile.mkdtemp(prefix="lz-pg-", dir="/tmp"))
        self.folder.chmod(0o755)
        self.url = f"postgresql:///lianzhen?host={self.folder}&user=lianzhen"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Make the cluster if it is not there, start it, and wait until it answers."""
        data = self.folder / "data"
        if os.geteuid() == 0:
            shutil.chown(self.folder, "postgres", "postgres")
        if not data.exists():
            self._run("initdb", "-D", str(data), "-U", "lianzhen", "-A", "trust", "-E", "UTF8")
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._as_owner("postgres", "-D", str(data), "-k", str(self.folder), "-h", ""),
                stdout=log,
                stderr=log,
            )
        wait_until("a PostgreSQL that answers", self._answers)
        if not self._has_database():
            self._run("createdb", "-h", str(self.folder), "-U", "lianzhen", "lianzhen")
        return self

    def stop(self) -> None:
        """A fast shutdown (SIGINT), and wait. The data stay."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(PATIENCE_SECONDS)
            self._process = None

    @property
    def pid(self) -> int:
        """Of the postmaster."""
        if self._process is None:
            raise LabError("PostgreSQL was not started")
        return self._process.pid

    def kill(self) -> None:
        """As a power cut ends it: SIGKILL for postmaster and backends, no checkpoint."""
        pid = self.pid
        family = [Path("/proc", each) for each in (str(pid), *_children(pid))]
        for each in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(each.name), signal.SIGKILL)
        if self._process is not None:
            self._process.wait(PATIENCE_SECONDS)
        self._process = None
        wait_until("a dead PostgreSQL", lambda: not any(each.exists() for each in family))

    def remove(self) -> None:
        """Stop it, and forget all that it held."""
        self.stop()
        shutil.rmtree(self.folder)

    def empty(self) -> None:
        """Drop the hub's database and make it anew."""
        self._run("dropdb", "-h", str(self.folder), "-U", "lianzhen", "--if-exists", "lianzhen")
        self._run("createdb", "-h", str(self.folder), "-U", "lianzhen", "lianzhen")

    def _answers(self) -> bool:
        ready = self._as_owner("pg_isready", "-q", "-h", str(self.folder))
        return subprocess.run(ready, check=False).returncode == 0

    def _has_database(self) -> bool:
        query = "SELECT 1 FROM pg_database WHERE datname = 'lianzhen'"
        psql = self._as_owner("psql", "-h", str(self.folder), "-U", "lianzhen", "-d", "postgres")
        done = subprocess.run([*psql, "-Atc", query], capture_output=True, text=True, check=True)
        return done.stdout.strip() == "1"

    def _run(self, *command: str) -> None:
        done = subprocess.run(self._as_owner(*command), capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise LabError(f"{command[0]}: {done.stderr.strip()}")

    def _as_owner(self, program: str, *arguments: str) -> list[str]:
        command = [str(self._programs / program), *arguments]
        if os.geteuid() != 0:
            return command
        owner = pwd.getpwnam("postgres")
        ids = ["--reuid", str(owner.pw_uid), "--regid", str(owner.pw_gid), "--clear-groups"]
        return ["setpriv", *ids, "--", *command]


class Lab:
    """A folder with programs in it; all of them end with the block, whatever happened."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._programs: list[Program] = []
        self._databases: list[Postgres] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        for program in self._programs:
            program.kill()
        for database in self._databases:
            database.remove()

    def hub(self, name: str = "hub", database: str | None = None, **settings: object) -> HubProgram:
        """A hub that is not started yet."""
        made = HubProgram(self.folder / name, database, **settings)
        self._programs.append(made)
        return made

    def box(self, box: str = "BOX-1", **settings: object) -> BoxProgram:
        """A blank box that is not started yet."""
        made = BoxProgram(self.folder / box.lower(), box, **settings)
        self._programs.append(made)
        return made

    @property
    def databases(self) -> tuple[Postgres, ...]:
        """Those of this lab."""
        return tuple(self._databases)

    def postgres(self) -> Postgres:
        """A running PostgreSQL with an empty database."""
        made = Postgres()
        self._databases.append(made)
        return made.start()


@contextlib.contextmanager
def lab() -> Iterator[Lab]:
    """A lab in a new folder, which is gone with the block."""
    with (
        tempfile.TemporaryDirectory(prefix="lz-", dir="/tmp", ignore_cleanup_errors=True) as folder,
        Lab(Path(folder)) as made,
    ):
        yield made
