"""Both ends of the NATS leaf: a publisher that waits for the stream's acknowledgement, and a
consumer that acknowledges what it has committed.
"""

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from typing import Any

import nats
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    ExternalStream,
    StorageType,
    StreamConfig,
    StreamSource,
)

from bench.common.child import answer
from bench.peers.sink import Sink, Tally

from bench.common.payload import entry  # isort: skip

SUBJECT = "bench.record"
_EDGE, _HUB = "EDGE", "HUB"
_UNACKNOWLEDGED = 1000
_BATCH = 1000
_WAIT_SECONDS = 30.0


async def publish(port: int, window: int) -> None:
    """Publish as commanded, ``window`` messages at a time."""
    client = await nats.connect(f"nats://127.0.0.1:{port}")
    stream = client.jetstream(timeout=_WAIT_SECONDS)
    await stream.add_stream(
        StreamConfig(name=_EDGE, subjects=["bench.>"], storage=StorageType.FILE, num_replicas=1)
    )
    answer(ready=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        bodies = iter([entry()[1] for _ in range(json.loads(line)["publish"])])
        began = time.monotonic()
        async with asyncio.TaskGroup() as workers:
            for _ in range(window):
                workers.create_task(_publish_all(stream, bodies))
        answer(began=began, acknowledged=time.monotonic())


async def _publish_all(stream: JetStreamContext, bodies: Iterator[bytes]) -> None:
    for body in bodies:
        await stream.publish(SUBJECT, body)


async def consume(port: int, tally: Tally) -> None:
    """Commit what arrives, together what has arrived; only then acknowledge."""
    client = await nats.connect(f"nats://127.0.0.1:{port}")
    stream = client.jetstream(timeout=_WAIT_SECONDS)
    source = StreamSource(name=_EDGE, external=ExternalStream(api="$JS.edge.API"))
    await stream.add_stream(StreamConfig(name=_HUB, mirror=source, storage=StorageType.FILE))
    arrived: asyncio.Queue[Msg] = asyncio.Queue()
    await stream.subscribe(
        "bench.>",
        stream=_HUB,
        durable="sink",
        cb=arrived.put,
        manual_ack=True,
        config=ConsumerConfig(
            ack_policy=AckPolicy.EXPLICIT, ack_wait=60, max_ack_pending=_UNACKNOWLEDGED
        ),
    )
    answer(ready=True)
    tally.listen()
    while True:
        batch = [await arrived.get()]
        while len(batch) < _BATCH and not arrived.empty():
            batch.append(arrived.get_nowait())
        await asyncio.to_thread(tally.store, [message.data for message in batch])
        for message in batch:
            await message.ack()


def _main(configuration: Any) -> None:
    if "window" in configuration:
        asyncio.run(publish(configuration["port"], configuration["window"]))
    else:
        sink = Sink(configuration["database"], configuration["table"])
        asyncio.run(consume(configuration["port"], Tally(sink)))


if __name__ == "__main__":
    _main(json.loads(sys.argv[1]))
