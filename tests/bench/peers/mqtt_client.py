"""Both ends of the bridge of two brokers: a publisher that waits for PUBACK, and a consumer that
acknowledges what it has committed.
"""

import json
import queue
import socket
import sys
import threading
import time
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from bench.common.child import answer
from bench.common.payload import entry
from bench.peers.sink import Sink, Tally

TOPIC = "bench/record"
_RECEIVE_MAXIMUM = 1000
_BATCH = 1000


def _client(name: str, *, manual_ack: bool) -> mqtt.Client:
    client = mqtt.Client(
        CallbackAPIVersion.VERSION2,
        client_id=name,
        protocol=MQTTProtocolVersion.MQTTv5,
        manual_ack=manual_ack,
    )
    client.max_inflight_messages_set(_RECEIVE_MAXIMUM)
    client.max_queued_messages_set(0)
    client.on_socket_open = _no_delay
    return client


def _no_delay(_client: mqtt.Client, _data: Any, opened: Any) -> None:
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _subscribe(client: mqtt.Client, *_: Any) -> None:
    client.subscribe("bench/#", qos=1)


def _connect(client: mqtt.Client, port: int) -> None:
    properties: Any = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.ReceiveMaximum = _RECEIVE_MAXIMUM
    properties.SessionExpiryInterval = 3600
    client.connect("127.0.0.1", port, clean_start=False, properties=properties)
    client.loop_start()


def publish(port: int, window: int) -> None:
    """Publish as commanded, at most ``window`` messages without their PUBACK."""
    client = _client("publisher", manual_ack=False)
    free = threading.Semaphore(window)
    client.on_publish = lambda *_: free.release()
    _connect(client, port)
    answer(ready=True)
    for line in sys.stdin:
        bodies = [entry()[1] for _ in range(json.loads(line)["publish"])]
        began = time.monotonic()
        for body in bodies:
            free.acquire()
            client.publish(TOPIC, body, qos=1)
        for _ in range(window):
            free.acquire()
        answer(began=began, acknowledged=time.monotonic())
        free.release(window)


def consume(port: int, tally: Tally) -> None:
    """Commit what arrives, together what has arrived; only then acknowledge."""
    arrived: queue.SimpleQueue[mqtt.MQTTMessage] = queue.SimpleQueue()
    client = _client("consumer", manual_ack=True)
    client.on_message = lambda _client, _data, message: arrived.put(message)
    client.on_connect = _subscribe
    client.on_subscribe = lambda *_: answer(ready=True)
    _connect(client, port)
    tally.listen()
    while True:
        batch = [arrived.get()]
        while len(batch) < _BATCH and not arrived.empty():
            batch.append(arrived.get())
        tally.store([bytes(message.payload) for message in batch])
        for message in batch:
            client.ack(message.mid, message.qos)


def _main(configuration: Any) -> None:
    if "window" in configuration:
        publish(configuration["port"], configuration["window"])
    else:
        consume(
            configuration["port"], Tally(Sink(configuration["database"], configuration["table"]))
        )


if __name__ == "__main__":
    _main(json.loads(sys.argv[1]))
