"""Very many simulated edges, a process of their own: commands in, figures out (``child``).

``connect``: bring all of them online, so many at a time. ``load``: frames at a steady rate over
all of them, open loop: what is late counts from the moment it was due. ``storm``: begin to wait for
all of them to come back after whatever happened to the broker. ``end``: wait until all is
committed, and say how much that was.
"""

import asyncio
import json
import random
import resource
import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bench.common.child import answer
from bench.common.measure import percentile
from bench.common.payload import entry
from bench.common.simulated_edge import KEEPALIVE_S, Hub, SimulatedEdge, Told

_LOOK_S = 0.02
_PATIENCE_S = 85.0
_PER_SOURCE = 12_000
"""Connections from one address of ours: a port each, of some 28,000."""


class Swarm:
    """All edges of this process."""

    def __init__(self, tasks: asyncio.TaskGroup, configuration: dict[str, Any]) -> None:
        host, port = configuration["address"]
        hub = Hub((host, port), configuration["authority"])
        told = Told(self._welcomed, self._committed, self._failed)
        self._tasks = tasks
        self._failures: Counter[str] = Counter()
        self._latencies: list[float] = []
        self._back: dict[SimulatedEdge, float] = {}
        self._since = 0.0
        self._edges = [
            SimulatedEdge(node, Path(pair), f"127.0.0.{2 + 2 * at // _PER_SOURCE}", hub, told)
            for at, (node, pair) in enumerate(configuration["edges"])
        ]
        self._put = 0
        tasks.create_task(self._keep_alive())

    async def connect(self, at_once: int) -> dict[str, object]:
        """Online, all of them; seconds until so many were."""
        self._since, self._back = time.monotonic(), {}
        for count, edge in enumerate(self._edges):
            while count - len(self._back) >= at_once:
                await self._look()
            self._tasks.create_task(edge.run())
        return await self._all_back(len(self._edges))

    async def storm(self, records: int) -> dict[str, object]:
        """Each has ``records`` to tell; wait until all are back and have told it."""
        self._since, self._back, self._latencies = time.monotonic(), {}, []
        for edge in self._edges:
            edge.put(self._records(records), self._since)
        found = await self._all_back(len(self._edges))
        await self._until_drained()
        return found | {"told_ms": _spread(self._latencies)}

    async def load(self, per_s: float, seconds: float, records: int) -> dict[str, object]:
        """``per_s`` frames a second for some seconds, and what came of them."""
        self._latencies = []
        edges, count = random.sample(self._edges, len(self._edges)), int(per_s * seconds)
        ready = [self._records(records) for _ in range(count)]
        sent, began = self._wire_bytes(), time.monotonic()
        for at, batch in enumerate(ready):
            due = began + at / per_s
            if (early := due - time.monotonic()) > 0:
                await asyncio.sleep(early)
            elif at % 50 == 0:
                await asyncio.sleep(0)
            edges[at % len(edges)].put(batch, due)
        took = time.monotonic() - began
        in_time = len(self._latencies)
        await self._until_drained()
        return {
            "frames": count,
            "offered_per_s": round(count / took, 1),
            "committed_in_time": round(in_time / (count * records), 3),
            "commit_ms": _spread(self._latencies),
            "wire_bytes_per_frame": round((self._wire_bytes() - sent) / count, 1),
        }

    def end(self) -> dict[str, object]:
        """What they had acknowledged."""
        return {
            "put": self._put,
            "committed": sum(edge.committed.seq for edge in self._edges),
            "sent_again": sum(edge.sent_again for edge in self._edges),
            "failures": dict(self._failures),
        }

    # -- inside

    def _records(self, count: int) -> list[bytes]:
        self._put += count
        return [entry()[1] for _ in range(count)]

    def _online(self) -> int:
        return sum(edge.online for edge in self._edges)

    def _wire_bytes(self) -> int:
        return sum(edge.wire_bytes for edge in self._edges)

    async def _look(self) -> None:
        await asyncio.sleep(_LOOK_S)

    async def _all_back(self, count: int) -> dict[str, object]:
        deadline = time.monotonic() + _PATIENCE_S
        while len(self._back) < count and time.monotonic() < deadline:
            await self._look()
        back = sorted(self._back.values())
        return {
            "online": self._online(),
            "seconds": {
                name: round(percentile(back, percent), 2) if back else None
                for name, percent in (("half", 50), ("p90", 90), ("p99", 99), ("all", 100))
            },
        }

    async def _until_drained(self) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while not all(edge.drained for edge in self._edges):
            if time.monotonic() > deadline:
                self._failures["not drained"] += sum(not edge.drained for edge in self._edges)
                return
            await self._look()

    async def _keep_alive(self) -> None:
        """Spread over the keepalive time; and what was lost on the way goes again."""
        while True:
            for part in range(KEEPALIVE_S // 2):
                for edge in self._edges[part :: KEEPALIVE_S // 2]:
                    edge.ping()
                for edge in self._edges:
                    edge.tick()
                await asyncio.sleep(1.0)

    def _welcomed(self, edge: SimulatedEdge) -> None:
        # A hello that is repeated welcomes an edge twice; its first one counts.
        self._back.setdefault(edge, time.monotonic() - self._since)

    def _committed(self, seconds: float) -> None:
        self._latencies.append(seconds)

    def _failed(self, code: str) -> None:
        self._failures[code] += 1


def _spread(seconds: Iterable[float]) -> dict[str, float] | None:
    found = sorted(seconds)
    if not found:
        return None
    return {
        name: round(percentile(found, percent) * 1000, 1)
        for name, percent in (("p50", 50), ("p99", 99), ("max", 100))
    }


async def _serve(configuration: dict[str, Any]) -> None:
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as tasks:
        swarm = Swarm(tasks, configuration)
        answer(ready=True)
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            match json.loads(line):
                case {"connect": at_once}:
                    answer(**await swarm.connect(at_once))
                case {"storm": records}:
                    answer(**await swarm.storm(records))
                case {"load": per_s, "seconds": seconds, "records": records}:
                    answer(**await swarm.load(per_s, seconds, records))
                case _:
                    answer(**swarm.end())


def main() -> None:
    """Serve commands until standard input ends."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    asyncio.run(_serve(_configuration()))


def _configuration() -> dict[str, Any]:
    """The edges are too many for a command line: their names come in a file."""
    found: dict[str, Any] = json.loads(sys.argv[1])
    found["edges"] = json.loads(Path(found["edges"]).read_text(encoding="utf-8"))
    return found


if __name__ == "__main__":
    main()
