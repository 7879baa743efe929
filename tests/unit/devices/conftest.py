"""A box's part for wearables, in process: real journal, real mosquitto, real devices."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from lab import free_ports
from lianzhen_edge.appliance.browser_trust import BrowserAuthority
from lianzhen_edge.appliance.clock import TrustedClock
from lianzhen_edge.devices.broker import Listeners
from lianzhen_edge.devices.desk import Credentials
from lianzhen_edge.devices.devices import Devices
from lianzhen_edge.journal.journal import Journal
from lianzhen_edge.meanings import MEANINGS
from lianzhen_protocol.accounts import Actor, Role
from lianzhen_protocol.identity import NodeId
from lianzhen_runtime.keys import FileKeys
from lianzhen_runtime.supervise import supervised
from support.lab_fixtures import needs_tool
from support.wearable import Place, WearableClient

NODE = NodeId("n0000000001ab")
NURSE = Actor(id="1" * 32, login="wang", name="王护士", roles=frozenset({Role.NURSE}), node=NODE)

pytestmark = needs_tool("mosquitto")


class Ward:
    """A journal, and what listens to devices."""

    def __init__(self, folder: Path, journal: Journal, clock: TrustedClock) -> None:
        tls, plain = free_ports(2)
        self.journal = journal
        self.clock = clock
        authority = BrowserAuthority(folder / "browser", clock.now)
        self.devices = Devices(
            folder / "devices",
            Listeners("127.0.0.1", tls, plain),
            lambda: journal,
            authority,
            clock,
        )
        ca = folder / "trusted.pem"
        ca.write_text(authority.pem)
        self.tls, self.plain = Place(tls, ca), Place(plain, None)

    async def add(self, name: str = "Band 7") -> Credentials:
        made = await self.devices.add(name, NURSE)
        assert made is not None
        return made

    async def use(self, made: Credentials, work: Callable[[WearableClient], Any]) -> Any:
        """Let a device do something, in a thread of its own, over TLS."""

        def whole() -> Any:
            with WearableClient(self.tls, *made) as client:
                return work(client)

        return await asyncio.to_thread(whole)


@contextlib.asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Ward]:
    clock = TrustedClock(folder, 0)
    keys = FileKeys(folder / "keys")
    journal = await Journal.open(
        folder / "journal.db", NODE, keys, lambda: clock.now_ms, meanings=MEANINGS
    )
    ward = Ward(folder, journal, clock)
    async with asyncio.TaskGroup() as tasks:
        running = [
            tasks.create_task(supervised(name, run, faults=faults, base=0.1), name=name)
            for name, run, faults in ward.devices.services()
        ]
        try:
            await ward.devices.listener.ready()
            yield ward
        finally:
            for task in running:
                task.cancel()
    await journal.close()


@pytest.fixture
async def ward(tmp_path: Path) -> AsyncIterator[Ward]:
    async with running(tmp_path) as made:
        yield made
