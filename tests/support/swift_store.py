"""OpenStack Swift with its S3 gateway, on loopback: a store of objects that is none of ours.

One disk, one copy, four programs (proxy, account, container, object), all of them Swift's own; the
object server syncs what it has before it answers. A busy machine is no reason to give a disk up.
"""

import contextlib
import os
import pwd
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from lab import free_ports, wait_until

USER, SECRET = "images:hub", "not-a-secret"
KINDS = ("account", "container", "object", "proxy")

_RINGS = """
import sys
from swift.common.ring import RingBuilder
folder, *ports = sys.argv[1:]
for kind, port in zip(("account", "container", "object"), ports):
    builder = RingBuilder(4, 1, 0)
    place = {"ip": "127.0.0.1", "port": int(port), "device": "disk", "weight": 1.0}
    builder.add_dev({"region": 1, "zone": 1, **place})
    builder.rebalance()
    builder.get_ring().save(f"{folder}/{kind}.ring.gz")
"""

_SERVER = """
import sys
folder, kind = sys.argv[1:]
from swift.common.utils import set_swift_dir
set_swift_dir(folder)
from swift.common.wsgi import run_wsgi
sys.exit(run_wsgi(f"{folder}/{kind}.conf", f"{kind}-server"))
"""

_PROXY = f"""
[pipeline:main]
pipeline = catch_errors s3api tempauth proxy-server
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:s3api]
use = egg:swift#s3api
location = us-east-1
[filter:tempauth]
use = egg:swift#tempauth
user_images_hub = {SECRET} .admin
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
conn_timeout = 20
node_timeout = 60
error_suppression_limit = 100000
"""

_STORAGE = """
[pipeline:main]
pipeline = {kind}-server
[app:{kind}-server]
use = egg:swift#{kind}
conn_timeout = 20
node_timeout = 60
"""


class SwiftStore:
    """It may be ended and begun again; what it has stays in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ports = dict(zip(KINDS, free_ports(len(KINDS)), strict=True))
        self._programs: list[subprocess.Popen[bytes]] = []
        (folder / "disks" / "disk").mkdir(parents=True)
        (folder / "swift.conf").write_text("[swift-hash]\nswift_hash_path_suffix = lianzhen\n")
        for kind, port in self._ports.items():
            rest = _PROXY if kind == "proxy" else _STORAGE.format(kind=kind)
            (folder / f"{kind}.conf").write_text(
                f"[DEFAULT]\nbind_ip = 127.0.0.1\nbind_port = {port}\nworkers = 0\n"
                f"swift_dir = {folder}\ndevices = {folder}/disks\nmount_check = false\n"
                f"user = {pwd.getpwuid(os.geteuid()).pw_name}\n{rest}"
            )
        ports = [str(self._ports[kind]) for kind in KINDS[:3]]
        subprocess.run(_python(_RINGS, str(folder), *ports), check=True)

    @property
    def endpoint(self) -> str:
        """Where its S3 gateway listens."""
        return f"http://127.0.0.1:{self._ports['proxy']}"

    def start(self) -> None:
        """Begin, and wait until all of it listens."""
        for kind in KINDS:
            with (self._folder / f"{kind}.log").open("ab") as log:
                command = _python(_SERVER, str(self._folder), kind)
                self._programs.append(subprocess.Popen(command, stdout=log, stderr=log))
        for kind, port in self._ports.items():
            wait_until(f"Swift's {kind} server", lambda port=port: _listens(port))  # type: ignore[misc]

    def stop(self) -> None:
        """End it at once: no chance to tidy up."""
        for program in self._programs:
            program.send_signal(signal.SIGKILL)
            program.wait()
        self._programs.clear()


def _python(code: str, *arguments: str) -> list[str]:
    return [sys.executable, "-W", "ignore", "-c", code, *arguments]


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextlib.contextmanager
def swift_store(folder: Path) -> Iterator[SwiftStore]:
    """One that listens."""
    made = SwiftStore(folder)
    try:
        made.start()
        yield made
    finally:
        made.stop()
