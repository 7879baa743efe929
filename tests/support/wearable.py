"""A wearable as a device maker would write it: paho, a password, and patience until the receipt."""

import json
import ssl
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple, Self

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from lab import wait_until


class Place(NamedTuple):
    """Where a box takes vitals; ``ca`` is a file, None without TLS."""

    port: int
    ca: Path | None


class WearableClient:
    """MQTT 3.1.1 as most devices speak it. It keeps a message until its receipt has come."""

    def __init__(self, place: Place, device: str, password: str) -> None:
        self.device = device
        self.receipts: dict[str, dict[str, str]] = {}
        self.refused = ""
        self.got: list[tuple[str, bytes]] = []
        self._place = place
        self._granted = threading.Event()
        self._client = client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=device, reconnect_on_failure=True
        )
        client.reconnect_delay_set(1, 1)
        client.username_pw_set(device, password)
        if place.ca is not None:
            client.tls_set(str(place.ca), tls_version=ssl.PROTOCOL_TLS_CLIENT)
        client.on_connect = self._connected
        client.on_message = self._received
        client.on_subscribe = lambda *_: self._granted.set()

    def __enter__(self) -> Self:
        self._client.connect("localhost", self._place.port, keepalive=10)
        self._client.loop_start()
        wait_until("a word from the broker", lambda: self._granted.is_set() or bool(self.refused))
        return self

    def __exit__(self, *exception: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    @property
    def connected(self) -> bool:
        return self._client.is_connected()

    def subscribe(self, topic: str) -> None:
        self._client.subscribe(topic, qos=1)

    def publish(self, payload: bytes, topic: str = "") -> None:
        """Once; whether anything comes of it is another question."""
        self._client.publish(topic or f"devices/{self.device}/vitals", payload, qos=1)

    def send(self, name: str, at_ms: int | None = None, **values: object) -> dict[str, str]:
        """Again and again, until there is a receipt; the receipt."""
        at = now_ms() if at_ms is None else at_ms
        last = 0.0

        def answered() -> bool:
            nonlocal last
            if name not in self.receipts and time.monotonic() - last > 1.0:
                last = time.monotonic()
                self.publish(message(name, at, at, **values))
            return name in self.receipts

        wait_until(f"a receipt for {name}", answered)
        return self.receipts[name]

    def _connected(self, client: paho.Client, _data: Any, _flags: Any, code: Any, _p: Any) -> None:
        if code.is_failure:
            self.refused = str(code)
            client.disconnect()  # else it tries for ever
        else:
            client.subscribe(f"devices/{self.device}/receipts", qos=1)

    def _received(self, _client: paho.Client, _data: Any, found: paho.MQTTMessage) -> None:
        self.got.append((found.topic, bytes(found.payload)))
        if found.topic.endswith("/receipts"):
            receipt = json.loads(found.payload)
            self.receipts[receipt["id"]] = receipt


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def message(name: str, measured_ms: int, sent_ms: int, **values: object) -> bytes:
    """A message's JSON; numbers get the unit of their parameter."""
    units = {"spo2": "%", "systolic": "mm[Hg]", "diastolic": "mm[Hg]", "temperature": "Cel",
             "oxygen": "L/min"}  # fmt: skip
    whole = {
        key: {"value": value, "unit": units.get(key, "/min")}
        if isinstance(value, int | float)
        else value
        for key, value in values.items()
    }
    return json.dumps(
        {"id": name, "measured_ms": measured_ms, "sent_ms": sent_ms, "values": whole}
    ).encode()
