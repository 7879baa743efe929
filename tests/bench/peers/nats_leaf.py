"""Peer: NATS JetStream on the box as a leaf node; the hub's stream mirrors the box's.

``sync_interval: always`` came with nats-server 2.10, and Debian 12 has 2.9. With ``durable`` the
box's store therefore lies in a folder with the S attribute (chattr +S): the kernel makes every
write of a file in it synchronous, which is the same promise. Without it, 2.9 syncs its files every
two minutes, and a power cut loses what was acknowledged since.

The hub's store is never synchronous, the mirror takes nothing from the box's store, and publisher
and consumer speak without TLS: all three are in the peer's favour.
"""

import importlib.util
import subprocess
from contextlib import ExitStack
from pathlib import Path

from bench.common.child import Child
from lab import free_ports

from .certificates import Files, certificates
from .peer import Peer, Server, program
from .sink import Sink


def missing() -> str | None:
    """Why this peer cannot be measured here, if so."""
    if program("nats-server") is None:
        return "nats-server is not installed"
    if importlib.util.find_spec("nats") is None:
        return "the Python package nats-py is not installed"
    return None


def start(ends: ExitStack, folder: Path, database: str, *, durable: bool, window: int) -> Peer:
    """Both servers and both ends, running until ``ends`` does.

    OSError where ``durable`` cannot be had.
    """
    name = "nats_leaf" if durable else "nats_leaf_unsynced"
    files = certificates(folder)
    hub_port, leaf_port, edge_port = free_ports(3)
    hub = _server(folder / "hub", _hub(hub_port, leaf_port, files), hub_port)
    ends.callback(hub.end)
    edge = _server(folder / "edge", _edge(edge_port, leaf_port, files), edge_port, durable=durable)
    ends.callback(edge.end)
    module = "bench.peers.nats_client"
    publisher = Child(module, {"port": edge_port, "window": window}, folder / "publisher.log")
    ends.callback(publisher.end)
    where: dict[str, object] = {"port": hub_port, "database": database, "table": name}
    consumer = Child(module, where, folder / "consumer.log")
    ends.callback(consumer.end)
    return Peer(name, (edge, hub), consumer, publisher, Sink(database, name))


def _server(folder: Path, configuration: str, port: int, *, durable: bool = False) -> Server:
    store = folder / "store"
    store.mkdir(parents=True)
    if durable:
        done = subprocess.run(
            ["chattr", "+S", str(store)], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise OSError(f"this file system knows no synchronous folder: {done.stderr.strip()}")
    (folder / "nats.conf").write_text(configuration)
    return Server((program("nats-server") or "nats-server", "-c", "nats.conf"), folder, port)


def _hub(port: int, leaf_port: int, files: Files) -> str:
    return f"""server_name: hub
listen: "127.0.0.1:{port}"
jetstream {{ store_dir: "./store", domain: hub }}
leafnodes {{
  listen: "127.0.0.1:{leaf_port}"
  tls {{
    ca_file: "{files.ca}", cert_file: "{files.server}", key_file: "{files.server_key}",
    verify: true
  }}
}}
"""


def _edge(port: int, leaf_port: int, files: Files) -> str:
    return f"""server_name: edge
listen: "127.0.0.1:{port}"
jetstream {{ store_dir: "./store", domain: edge }}
leafnodes {{
  remotes: [ {{
    url: "tls://127.0.0.1:{leaf_port}"
    tls {{ ca_file: "{files.ca}", cert_file: "{files.client}", key_file: "{files.client_key}" }}
  }} ]
}}
"""
