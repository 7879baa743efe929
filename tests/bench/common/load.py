"""The load generator, a process of its own: puts records into a box and watches them go through.

Commands: ``put`` (several requests in flight, until the journal is empty again and the hub has
applied all) and ``alone`` (one record at a time, from the request to the hub's commit).
"""

import asyncio
import json
import random
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from bench.common.child import answer
from bench.common.hub_view import HubView
from bench.common.measure import percentile
from bench.common.payload import entry

STREAM = "record.bench"
_LOOK_SECONDS = 0.02
_WATCH_SECONDS = 0.0002


class Load:
    """One box under load, and the database of its hub."""

    def __init__(self, box: aiohttp.ClientSession, view: HubView) -> None:
        self._box = box
        self._view = view

    async def put(self, count: int, batch: int, in_flight: int) -> dict[str, object]:
        """Times in seconds from the first put: all durable at the box, drained, applied.

        ``batch`` records are in a request, and ``in_flight`` requests under way.
        """
        target = self._view.applied() + count
        entries = [entry()[1] for _ in range(count)]
        chunks = (entries[at : at + batch] for at in range(0, count, batch))
        bodies = iter([msgspec.msgpack.encode(chunk) for chunk in chunks])
        began = time.monotonic()
        async with asyncio.TaskGroup() as workers:
            for _ in range(in_flight):
                workers.create_task(self._send_all(bodies))
        stored = time.monotonic() - began
        await _until(self._drained, _LOOK_SECONDS)
        drained = time.monotonic() - began
        await _until(partial(self._applied, target), _LOOK_SECONDS)
        return {"stored": stored, "drained": drained, "applied": time.monotonic() - began}

    async def alone(self, count: int) -> dict[str, object]:
        """Milliseconds of a lone record: until the box has it, until the hub has committed it."""
        stored, committed = [], []
        before, target = self._view.committed(), self._view.applied() + count
        for number in range(1, count + 1):
            await asyncio.sleep(random.uniform(0.02, 0.06))
            body = msgspec.msgpack.encode([entry()[1]])
            began = time.monotonic()
            await self._send(body)
            stored.append((time.monotonic() - began) * 1000)
            await _until(partial(self._committed, before + number), _WATCH_SECONDS)
            committed.append((time.monotonic() - began) * 1000)
        await _until(partial(self._applied, target), _LOOK_SECONDS)
        return {"put_ms": _spread(stored), "commit_ms": _spread(committed)}

    async def _send_all(self, bodies: Iterator[bytes]) -> None:
        for body in bodies:
            await self._send(body)

    async def _send(self, body: bytes) -> None:
        async with self._box.post("/records", params={"stream": STREAM}, data=body) as reply:
            if reply.status != 201:
                raise RuntimeError(f"the box answers {reply.status}: {await reply.text()}")
            await reply.read()

    async def _applied(self, count: int) -> bool:
        return self._view.applied() >= count

    async def _committed(self, count: int) -> bool:
        return self._view.committed() >= count

    async def _drained(self) -> bool:
        async with self._box.get("/status") as reply:
            streams = msgspec.json.decode(await reply.read())["streams"]
        return all(stream["last"] == stream["safe"] for stream in streams)


async def _until(holds: Callable[[], Awaitable[bool]], seconds: float) -> None:
    """Look every ``seconds``."""
    while True:
        if await holds():
            return
        await asyncio.sleep(seconds)


def _spread(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {f"p{percent}": round(percentile(ordered, percent), 2) for percent in (50, 99)}


async def _serve(configuration: Any) -> None:
    socket = Path(configuration["socket"])
    view = HubView(configuration["database"], STREAM)
    connector = aiohttp.UnixConnector(path=str(socket), limit=0)
    async with aiohttp.ClientSession("http://box", connector=connector) as box:
        load = Load(box, view)
        answer(ready=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            command = json.loads(line)
            if "put" in command:
                answer(**await load.put(command["put"], command["batch"], command["in_flight"]))
            else:
                answer(**await load.alone(command["alone"]))


if __name__ == "__main__":
    asyncio.run(_serve(json.loads(sys.argv[1])))
