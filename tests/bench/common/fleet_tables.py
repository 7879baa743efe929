"""Puts very many enrolled boxes into a hub that has not started yet, by the hub's own parts."""

import json
import time
from datetime import timedelta
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import insert

from lab import HubProgram
from lianzhen_hub.fleet.authority import Authority, serial_text
from lianzhen_hub.fleet.desk import ACTIVE, CURRENT
from lianzhen_hub.fleet.requests import fingerprint
from lianzhen_hub.store import tables
from lianzhen_hub.store.database import open_engine, upgrade
from lianzhen_protocol.identity import new_node_id
from lianzhen_runtime.files import private_folder


def enrol(hub: HubProgram, url: str, count: int, folder: Path) -> tuple[Path, str]:
    """Make ``count`` nodes: a file that lists (node, certificate and key), and the authority."""
    folder.mkdir()
    private_folder(hub.state, 0o711)
    authority = Authority(hub.state / "ca")
    # One key for all of them: each has a certificate of its own, and keys cost time.
    key = ec.generate_private_key(ec.SECP256R1())
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    now_ms, spki = time.time_ns() // 1_000_000, fingerprint(key.public_key())
    nodes, certificates, listed = [], [], []
    for number in range(count):
        name = new_node_id(number.to_bytes(4, "big") + b"fleet"[:4])
        made = authority.issue_node(key.public_key(), name, timedelta(days=30))
        pem = made.public_bytes(serialization.Encoding.PEM)
        path = folder / f"{name}.pem"
        path.write_bytes(secret + pem)
        listed.append((name, str(path)))
        row = {"id": name, "box": f"BENCH-{number}", "clinic": "bench", "status": ACTIVE}
        nodes.append(row | {"enrolled_ms": now_ms})
        certificates.append(
            {
                "serial": serial_text(made.serial_number),
                "node": name,
                "spki_sha256": spki,
                "not_after_ms": int(made.not_valid_after_utc.timestamp() * 1000),
                "state": CURRENT,
                "pem": pem.decode(),
            }
        )
    engine = open_engine(url)
    upgrade(engine)
    with engine.begin() as connection:
        connection.execute(insert(tables.node), nodes)
        connection.execute(insert(tables.certificate), certificates)
    engine.dispose()
    path = folder / "edges.json"
    path.write_text(json.dumps(listed), encoding="utf-8")
    return path, authority.ca_pem
