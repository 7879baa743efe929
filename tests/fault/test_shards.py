"""Two ingest shards on real programs: one is stopped and killed again and again, and nothing is
lost, doubled, or noticed by the boxes of the other.
"""

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from bench.common.fleet_tables import enrol
from bench.common.hub_view import HubView
from bench.common.payload import entry
from bench.common.simulated_edge import STREAM, Hub, SimulatedEdge, Told
from lab import PATIENCE_SECONDS, BoxProgram, HubProgram, Lab, Postgres, wait_until
from lianzhen_hub.ingest.share import shard_of
from support.lab_fixtures import item, notes, put_all

EDGES, KILLS, RECORDS = 12, 2, 20


async def until(condition: Callable[[], bool], what: str) -> None:
    """Return when it holds; a busy machine may take its time."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"never came true: {what}"
        await asyncio.sleep(0.05)


def shard_pid(hub: HubProgram, shard: int) -> int | None:
    """Of the process that runs now."""
    for child in psutil.Process(hub.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            words = child.cmdline()
            if words[-2:] == ["--shard", str(shard)] and "setpriv" not in words[0]:
                return child.pid
    return None


class Fleet:
    """Simulated edges, each with its count of welcomes."""

    def __init__(self, listed: Path, authority: str, hub: HubProgram) -> None:
        where = Hub(("127.0.0.1", hub.mqtt_port), authority)
        self.welcomes: dict[str, int] = {}
        self.failures: list[str] = []
        told = Told(self._welcomed, lambda _seconds: None, self.failures.append)
        self.edges = [
            SimulatedEdge(node, Path(pair), "127.0.0.1", where, told)
            for node, pair in json.loads(listed.read_text())
        ]
        self.put = 0

    def of(self, shard: int) -> list[SimulatedEdge]:
        return [edge for edge in self.edges if shard_of(edge.node, 2) == shard]

    def write(self, edges: list[SimulatedEdge]) -> None:
        for edge in edges:
            edge.put([entry()[1] for _ in range(RECORDS)], time.monotonic())
            self.put += RECORDS

    def tick(self) -> None:
        for edge in self.edges:
            edge.tick()
            edge.ping()

    def _welcomed(self, edge: SimulatedEdge) -> None:
        self.welcomes[edge.node] = self.welcomes.get(edge.node, 0) + 1


@pytest.fixture(scope="module")
def sharded(place: Lab, postgres: Postgres) -> Iterator[tuple[HubProgram, Fleet, str]]:
    postgres.empty()
    hub = place.hub("sharded", postgres.url, shards=2)
    listed, authority = enrol(hub, postgres.url, EDGES, place.folder / "edges")
    hub.start().wait()
    yield hub, Fleet(listed, authority, hub), postgres.url
    hub.stop()


async def drained(fleet: Fleet, edges: list[SimulatedEdge], what: str) -> None:
    def all_of_it() -> bool:
        fleet.tick()
        return all(edge.drained for edge in edges)

    await until(all_of_it, what)


async def kill_again_and_again(hub: HubProgram, fleet: Fleet) -> None:
    for _ in range(KILLS):
        pid = shard_pid(hub, 0)
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        fleet.write(fleet.edges)
        await drained(fleet, fleet.of(1), "the other shard's boxes go on")
        assert not any(edge.drained for edge in fleet.of(0))
        os.kill(pid, signal.SIGKILL)
        fleet.write(fleet.edges)
        await until(changed(hub, pid), "a new shard")
        await drained(fleet, fleet.edges, "all is committed")


def changed(hub: HubProgram, pid: int) -> Callable[[], bool]:
    return lambda: shard_pid(hub, 0) not in {None, pid}


async def test_a_shard_that_dies_takes_nothing_with_it(
    sharded: tuple[HubProgram, Fleet, str],
) -> None:
    hub, fleet, url = sharded
    assert fleet.of(0)
    assert fleet.of(1)
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(edge.run()) for edge in fleet.edges]
        await until(lambda: len(fleet.welcomes) == EDGES, "everybody is welcomed")
        untouched = {edge.node: fleet.welcomes[edge.node] for edge in fleet.of(1)}
        await kill_again_and_again(hub, fleet)
        assert {edge.node: fleet.welcomes[edge.node] for edge in fleet.of(1)} == untouched
        for task in running:
            task.cancel()
    assert not fleet.failures
    view = HubView(url, STREAM)
    try:
        wait_until("an applied log", lambda: view.applied() >= fleet.put)
        assert (view.logged(), view.applied(), view.committed()) == (fleet.put,) * 3
    finally:
        view.close()
    assert hub.json("status")["ingest"]["records"] > 0


def test_a_box_that_joins_is_heard_by_its_shard_and_hears_what_comes_down(
    place: Lab, sharded: tuple[HubProgram, Fleet, str]
) -> None:
    hub, _, _ = sharded
    box: BoxProgram = place.box("BOX-SHARD").start()
    node = box.enrol(hub)
    (identity,) = put_all(box, notes(1))
    wait_until("a drained box", box.drained)
    wait_until("an applied record", lambda: bool(hub.json("log", "--node", node)))
    hub.ask("open", identity.hex(), "--by", "Dr Zhao")
    wait_until("an opened record at the box", lambda: item(box, identity)["state"] == "seen")
    hub.ask("revoke", node, "--reason", "test")
    wait_until("a box that is out", lambda: not box.online())
