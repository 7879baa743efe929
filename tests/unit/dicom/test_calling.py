"""C-ECHO back: each thing that may be wrong has a name of its own."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from pynetdicom import AE
from pynetdicom.sop_class import CTImageStorage, Verification  # type: ignore[attr-defined]

from lianzhen_edge.dicom import calling
from lianzhen_edge.dicom.calling import echo

HERE = "127.0.0.1"


@contextmanager
def modality(sop_class: str = Verification, **rules: Any) -> Iterator[int]:
    entity = AE(ae_title="CT1")
    entity.add_supported_context(sop_class)
    for name, value in rules.items():
        setattr(entity, name, value)
    server = entity.start_server((HERE, 0), block=False)
    assert server is not None
    assert server.socket is not None
    try:
        yield server.socket.getsockname()[1]
    finally:
        server.shutdown()


@pytest.mark.parametrize(
    ("title", "code", "rules"),
    [
        ("CT1", "ok", {}),
        ("OTHER", "title-unknown", {"require_called_aet": True}),
        ("CT1", "caller-unknown", {"require_calling_aet": ["SOMEBODY"]}),
        ("CT1", "no-echo", {"sop_class": CTImageStorage}),
    ],
)
async def test_what_a_modality_says(title: str, code: str, rules: dict[str, Any]) -> None:
    with modality(**rules) as port:
        assert (await echo("LIANZHEN", title, HERE, port)).code == code


@contextmanager
def stranger(treat: Callable[[socket.socket], None]) -> Iterator[int]:
    """Something that listens and is no modality."""
    kept: list[socket.socket] = []
    listening = socket.create_server((HERE, 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            kept.append(connection)
            treat(connection)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listening.getsockname()[1]
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()
        for each in (listening, *kept):
            each.close()


async def test_who_says_nothing_or_hangs_up(monkeypatch: pytest.MonkeyPatch) -> None:
    with stranger(socket.socket.close) as port:
        assert (await echo("LIANZHEN", "CT1", HERE, port)).code == "aborted"
    monkeypatch.setattr(calling, "LIMIT_SECONDS", 0.3)
    with stranger(lambda _connection: None) as port:
        assert (await echo("LIANZHEN", "CT1", HERE, port)).code == "silent"


async def test_nobody_there() -> None:
    with socket.create_server((HERE, 0)) as listening:
        port = listening.getsockname()[1]
    assert (await echo("LIANZHEN", "CT1", HERE, port)).code == "closed"
    assert (await echo("LIANZHEN", "CT1", "no-such-name.invalid", 104)).code == "unreachable"
    assert (await echo("LIANZHEN", "CT1", HERE, 0)).code == "port-unknown"
