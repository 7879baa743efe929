"""Three RabbitMQ nodes on this machine, one cluster, quorum queues: the hub's broker at scale.

    python deploy/rabbitmq.py FOLDER CA.pem SERVER.pem AUTH_PORT

starts them on loopback until Ctrl-C and prints their ports. ``CA.pem`` is what the hub gives at
``/enrol/v1/cacerts``, ``SERVER.pem`` is ``ca/server.pem`` in its state folder, AUTH_PORT its
``broker_auth_port``. In production the
three are on three machines with the same files, their own host names, and a load balancer in front.

Who may do what is asked of the hub at each connect and for each topic (rabbitmq_auth_backend_http):
a box by the name in its certificate, on its own topics, and not any more when it is revoked.
"""

import argparse
import contextlib
import os
import random
import secrets
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Self

from lab import LabError, free_ports, wait_until

NODES: Final = 3
PROGRAM: Final = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
PLUGINS: Final = ("rabbitmq_mqtt", "rabbitmq_auth_backend_http")
_START_SECONDS: Final = 120.0


def configuration(
    names: list[str], *, mqtt_port: int, files: Mapping[str, Path], auth_port: int
) -> str:
    """rabbitmq.conf of one node; ``files``: ca and server (certificate chain and key)."""
    asked = f"http://127.0.0.1:{auth_port}/broker/v1"
    lines = [
        "listeners.tcp = none",  # no AMQP: boxes and hub speak MQTT, over TLS
        "mqtt.listeners.tcp = none",
        f"mqtt.listeners.ssl.1 = 127.0.0.1:{mqtt_port}",
        f"ssl_options.cacertfile = {files['ca']}",
        f"ssl_options.certfile = {files['server']}",
        f"ssl_options.keyfile = {files['server']}",
        "ssl_options.verify = verify_peer",
        "ssl_options.fail_if_no_peer_cert = true",
        "ssl_options.versions.1 = tlsv1.3",
        # The certificate's common name is the user, as at mosquitto.
        "mqtt.allow_anonymous = false",
        "mqtt.ssl_cert_login = true",
        "ssl_cert_login_from = common_name",
        "auth_backends.1 = http",
        "auth_http.http_method = post",
        *(f"auth_http.{what}_path = {asked}/{what}" for what in _ASKED),
        "mqtt.vhost = /",
        "mqtt.exchange = amq.topic",
        # The hub's session outlives a node: its queue is a majority's.
        "mqtt.durable_queue_type = quorum",
        "mqtt.prefetch = 1000",
        "mqtt.subscription_ttl = 3600000",
        "cluster_formation.peer_discovery_backend = classic_config",
        *(
            f"cluster_formation.classic_config.nodes.{number} = {name}"
            for number, name in enumerate(names, 1)
        ),
        # Two of three go on; one alone stops, and never takes what it could not keep.
        "cluster_partition_handling = pause_minority",
        "vm_memory_high_watermark.absolute = 512MB",
        "disk_free_limit.absolute = 64MB",
        "log.console = false",
        "log.file.level = info",
    ]
    return "\n".join(lines) + "\n"


_ASKED: Final = ("user", "vhost", "resource", "topic")


class Node:
    """One node. It is killed as a power cut ends a machine, and comes back with its folder."""

    def __init__(self, cluster: "Cluster", number: int) -> None:
        self.name = f"lianzhen{number}@localhost"
        self.mqtt_port, self._dist_port = free_ports(2)
        self._cluster = cluster
        self._folder = cluster.folder / self.name
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def is_new(self) -> bool:
        """It never ran."""
        return not (self._folder / "data").exists()

    @property
    def runs(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        """Start it; ``wait`` says when it takes connections."""
        self._folder.mkdir(exist_ok=True)
        configured = self._folder / "rabbitmq.conf"
        configured.write_text(
            configuration(
                self._cluster.names,
                mqtt_port=self.mqtt_port,
                files=self._cluster.files,
                auth_port=self._cluster.auth_port,
            )
        )
        plugins = self._folder / "enabled_plugins"
        plugins.write_text(f"[{','.join(PLUGINS)}].\n")
        with (self._folder / "out").open("ab") as out:
            self._process = subprocess.Popen(
                [str(PROGRAM)],
                env=self._cluster.environment
                | {
                    "RABBITMQ_NODENAME": self.name,
                    "RABBITMQ_DIST_PORT": str(self._dist_port),
                    "RABBITMQ_CONFIG_FILE": str(configured),
                    "RABBITMQ_ENABLED_PLUGINS_FILE": str(plugins),
                    "RABBITMQ_MNESIA_BASE": str(self._folder / "data"),
                    "RABBITMQ_LOG_BASE": str(self._folder / "log"),
                    "RABBITMQ_PID_FILE": str(self._folder / "pid"),
                },
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        return self

    def wait(self) -> Self:
        """Return when its MQTT port takes connections."""

        def takes() -> bool:
            if not self.runs:
                raise LabError(f"{self.name} ended; its log is in {self._folder}")
            try:
                socket.create_connection(("127.0.0.1", self.mqtt_port), 1).close()
            except OSError:
                return False
            return True

        try:
            wait_until(f"{self.name} that takes connections", takes, _START_SECONDS)
        except LabError as error:
            logs = sorted((self._folder / "log").glob("*.log"))
            said = logs[-1].read_text(errors="replace")[-3000:] if logs else "it logged nothing"
            raise LabError(f"{error}\n{said}") from error
        return self

    def kill(self) -> None:
        """SIGKILL for all of it."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


class Cluster:
    """All nodes in one folder, with an epmd of their own. ``stop`` leaves nothing behind."""

    def __init__(self, folder: Path, ca: Path, server: Path, auth_port: int) -> None:
        if not PROGRAM.exists():
            raise LabError("RabbitMQ is not installed; install the package rabbitmq-server")
        self.folder, self.auth_port = folder, auth_port
        self.files = {"ca": ca, "server": server}
        folder.mkdir(exist_ok=True, mode=0o700)
        (self._epmd_port,) = free_ports(1)
        cookie = folder / ".erlang.cookie"
        if not cookie.exists():
            cookie.touch(0o600)
            cookie.write_text(secrets.token_hex(32))
            cookie.chmod(0o400)  # Erlang takes no other
        self.nodes = [Node(self, number) for number in range(1, NODES + 1)]

    @property
    def names(self) -> list[str]:
        """Of the nodes."""
        return [node.name for node in self.nodes]

    @property
    def environment(self) -> dict[str, str]:
        """What every Erlang program of this cluster runs in."""
        return {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "HOME": str(self.folder),
            "LANG": "C.UTF-8",
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                "+S 1:1 +sbwt none -kernel inet_dist_use_interface {127,0,0,1}"
            ),
        }

    def start(self) -> Self:
        """Start all of them, and return when all take connections.

        A new cluster is begun by the first; the others join it one by one, as nodes that are
        new together may wait for each other. One that was there before waits for its majority.
        """
        for node in self.nodes:
            if node.is_new:
                node.start().wait()
        for node in self.nodes:
            if not node.runs:
                node.start()
        for node in self.nodes:
            node.wait()
            self._run("rabbitmq-queues", "grow", node.name, "all")
        return self

    def _run(self, program: str, *arguments: str) -> None:
        """One of RabbitMQ's own tools: a queue that is older than a node gets a copy there."""
        command = [str(PROGRAM.parent / program), "-n", self.nodes[0].name, *arguments]
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise LabError(f"{program} {arguments[0]}: {done.stderr.strip()}")

    def stop(self) -> None:
        """End them and their epmd."""
        for node in self.nodes:
            node.kill()
        wait_until("an epmd that is gone", self._end_epmd)

    def _end_epmd(self) -> bool:
        """It refuses for as long as it thinks that a node lives."""
        command = ["epmd", "-port", str(self._epmd_port), "-kill"]
        subprocess.run(command, env=self.environment, capture_output=True, check=False)
        try:
            socket.create_connection(("127.0.0.1", self._epmd_port), 1).close()
        except OSError:
            return True
        return False


class Balancer:
    """What a load balancer does, for boxes that know one address: each connection to a node that
    takes it.
    """

    def __init__(self, port: int, targets: Sequence[int]) -> None:
        self._targets = targets
        self._listener = socket.create_server(("127.0.0.1", port))
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """No new connections."""
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                box, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(box,), daemon=True).start()

    def _serve(self, box: socket.socket) -> None:
        with box:
            node = self._connect()
            if node is None:
                return
            with node:
                back = threading.Thread(target=_pump, args=(node, box), daemon=True)
                back.start()
                _pump(box, node)
                back.join()

    def _connect(self) -> socket.socket | None:
        for port in random.sample(self._targets, len(self._targets)):
            with contextlib.suppress(OSError):
                return socket.create_connection(("127.0.0.1", port), 2)
        return None


def _pump(source: socket.socket, target: socket.socket) -> None:
    """Until one of them ends; then both do."""
    source.settimeout(None)
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    for each in (source, target):
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


def main() -> int:
    """Hold a cluster until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("ca", type=Path)
    parser.add_argument("server", type=Path)
    parser.add_argument("auth_port", type=int)
    options = parser.parse_args()
    cluster = Cluster(options.folder, options.ca, options.server, options.auth_port)
    try:
        cluster.start()
        for node in cluster.nodes:
            print(f"{node.name}  mqtts://127.0.0.1:{node.mqtt_port}", flush=True)
        signal.pause()
    except KeyboardInterrupt:
        pass
    except LabError as error:
        print(f"rabbitmq: {error}", file=sys.stderr)
        return 1
    finally:
        cluster.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
