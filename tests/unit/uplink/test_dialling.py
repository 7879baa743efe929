"""A session that comes back: what the waits are, and what wakes them."""

import asyncio
import os
import shutil
import subprocess
import sys

import pytest

from lianzhen_edge.uplink import dialling as module
from lianzhen_edge.uplink import route
from lianzhen_edge.uplink.dialling import Dialling
from lianzhen_protocol import retry
from lianzhen_runtime.mqtt import Address, LinkLost, probe


class Hub:
    """Somebody to dial: ``answers`` says what becomes of each session, the last one for ever."""

    def __init__(self, *answers: Exception | None) -> None:
        self._answers = list(answers)
        self.sessions = self.probes = 0
        self.there = True
        self.through = asyncio.Event()

    async def session(self) -> None:
        self.sessions += 1
        answer = self._answers.pop(0) if self._answers else None
        if answer is not None:
            raise answer
        self.through.set()
        await asyncio.Event().wait()

    async def probe(self) -> None:
        self.probes += 1
        if not self.there:
            raise LinkLost("nobody", reached=False)


AWAY = LinkLost("no route", reached=False)


@pytest.fixture(autouse=True)
def _last_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each wait is as long as it can be."""
    monkeypatch.setattr(module, "_unit", lambda: 0.999)


async def test_while_nobody_is_there_a_bare_connection_goes_ahead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_unit", lambda: 0.01)
    hub = Hub(AWAY)
    hub.there = False
    async with asyncio.TaskGroup() as tasks:
        dialling = Dialling("test", hub.session, hub.probe)
        task = tasks.create_task(dialling.run())
        while hub.probes < 3:
            dialling.line_is_back()
            await asyncio.sleep(0.01)
        assert hub.sessions == 0
        hub.there = True
        while not hub.through.is_set():
            dialling.line_is_back()
            await asyncio.sleep(0.01)
        assert hub.sessions == 2
        task.cancel()


async def test_what_is_urgent_does_not_wait_out_the_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "HURRY_SECONDS", 0.05)
    monkeypatch.setattr(retry, "backoff", lambda *_, **__: 3600.0)
    hub = Hub(*[ConnectionResetError()] * 2)
    async with asyncio.TaskGroup() as tasks:
        dialling = Dialling("test", hub.session, hub.probe)
        task = tasks.create_task(dialling.run())
        while not hub.through.is_set():
            dialling.hurry()
            await asyncio.sleep(0.01)
        assert hub.sessions == 3
        task.cancel()


async def test_a_bug_is_no_fault_of_the_line() -> None:
    hub = Hub(ValueError("bug"))
    with pytest.raises(ValueError, match="bug"):
        await Dialling("test", hub.session, hub.probe).run()


async def test_a_probe_tells_whether_somebody_listens() -> None:
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    where = Address("127.0.0.1", server.sockets[0].getsockname()[1])
    await probe(where)
    server.close()
    await server.wait_closed()
    with pytest.raises(LinkLost) as lost:
        await probe(where)
    assert not lost.value.reached


def test_a_datagram_of_the_kernel_is_read() -> None:
    first = (20).to_bytes(4, sys.byteorder) + (24).to_bytes(2, sys.byteorder) + bytes(14)
    second = (17).to_bytes(4, sys.byteorder) + (16).to_bytes(2, sys.byteorder) + bytes(14)
    assert list(route.kinds(first + second)) == [route.NEW_ROUTE, route.NEW_LINK]
    assert list(route.kinds(bytes(16))) == []  # a length that leads nowhere
    assert list(route.kinds(b"short")) == []


_WATCH = """
import asyncio, subprocess
from lianzhen_edge.uplink import route

async def main():
    told = asyncio.Event()
    with route.watched(told.set):
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        async with asyncio.timeout(60):
            await told.wait()

asyncio.run(main())
"""


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("ip") is None or shutil.which("unshare") is None,
    reason="makes a network of its own: needs root, ip and unshare",
)
def test_the_kernel_tells_of_a_link_that_came_up() -> None:
    subprocess.run(["unshare", "--net", sys.executable, "-c", _WATCH], check=True, timeout=60)
