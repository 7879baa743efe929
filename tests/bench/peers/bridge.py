"""Peer: a mosquitto on the box that stores and forwards to the hub's mosquitto by its bridge.

``durable`` saves the edge broker's store on every change (autosave_on_changes with
autosave_interval 1; each save writes the whole store to a new file, syncs and renames it), half a
millisecond after the PUBACK: the nearest that mosquitto comes to "nothing is acknowledged before
it is on the disk". Without it the store is saved on a clean shutdown only, and a power cut loses
all that PUBACK had promised.

The hub's broker keeps nothing on disk in either case, and publisher and consumer speak without
TLS: both are in the peer's favour.
"""

import os
from contextlib import ExitStack
from pathlib import Path

from bench.common.child import Child
from lab import free_ports

from .certificates import Files, certificates
from .peer import Peer, Server, program
from .sink import Sink

_LIMITS = """allow_anonymous true
max_inflight_messages 1000
max_queued_messages 0
max_queued_bytes 0
set_tcp_nodelay true
sys_interval 0
"""


def missing() -> str | None:
    """Why this peer cannot be measured here, if so."""
    return None if program("mosquitto") else "mosquitto is not installed"


def start(ends: ExitStack, folder: Path, database: str, *, durable: bool, window: int) -> Peer:
    """Two brokers and both ends, running until ``ends`` does."""
    name = "mosquitto_bridge" if durable else "mosquitto_bridge_unsynced"
    files = certificates(folder)
    hub_port, bridge_port, edge_port = free_ports(3)
    hub = _broker(folder / "hub", _hub(hub_port, bridge_port, files), hub_port)
    ends.callback(hub.end)
    edge = _broker(folder / "edge", _edge(edge_port, bridge_port, files, durable), edge_port)
    ends.callback(edge.end)
    module = "bench.peers.mqtt_client"
    where: dict[str, object] = {"port": hub_port, "database": database, "table": name}
    consumer = Child(module, where, folder / "consumer.log")
    ends.callback(consumer.end)
    publisher = Child(module, {"port": edge_port, "window": window}, folder / "publisher.log")
    ends.callback(publisher.end)
    return Peer(name, (edge, hub), consumer, publisher, Sink(database, name))


def _broker(folder: Path, configuration: str, port: int) -> Server:
    folder.mkdir()
    owner = "user root\n" if os.geteuid() == 0 else ""
    (folder / "mosquitto.conf").write_text(owner + configuration + _LIMITS)
    return Server((program("mosquitto") or "mosquitto", "-c", "mosquitto.conf"), folder, port)


def _hub(port: int, bridge_port: int, files: Files) -> str:
    return f"""listener {port} 127.0.0.1
listener {bridge_port} 127.0.0.1
cafile {files.ca}
certfile {files.server}
keyfile {files.server_key}
require_certificate true
tls_version tlsv1.3
persistence false
"""


def _edge(port: int, bridge_port: int, files: Files, durable: bool) -> str:
    saving = "autosave_on_changes true\nautosave_interval 1" if durable else "autosave_interval 0"
    return f"""listener {port} 127.0.0.1
persistence true
persistence_location ./
{saving}
connection hub
address 127.0.0.1:{bridge_port}
topic bench/# out 1
cleansession false
notifications false
restart_timeout 1
bridge_protocol_version mqttv50
bridge_cafile {files.ca}
bridge_certfile {files.client}
bridge_keyfile {files.client_key}
"""
