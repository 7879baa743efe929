"""A wearable at a real box with a real hub: from its message to the hub's rows and an open page."""

import http.client
import os
import signal
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Self

import msgspec
import pytest

from lab import Lab, free_ports, wait_until
from lianzhen_protocol import bedside
from lianzhen_protocol.accounts import Role
from lianzhen_protocol.bedside import Trend
from lianzhen_protocol.minutes import Minute
from lianzhen_protocol.vitals import Reading
from support.consoles import Caller, clinic_people
from support.lab_fixtures import Pair, enrolled_pair, hub_sheets, needs_tool
from support.wearable import Place, WearableClient, now_ms

pytestmark = needs_tool("mosquitto")
READINGS, ALARMS = "vitals.readings", "alarm.clinic"


class Ward(NamedTuple):
    """A box with a device and a nurse."""

    pair: Pair
    nurse: Caller
    place: Place
    device: str
    password: str

    def client(self) -> WearableClient:
        return WearableClient(self.place, self.device, self.password)


@pytest.fixture(scope="module")
def ward(place: Lab) -> Iterator[Ward]:
    (port,) = free_ports(1)
    pair = enrolled_pair(place, device_port=port)
    nurse = clinic_people(pair.box).of(Role.NURSE).caller
    ca = Path(pair.box.folder) / "trusted.pem"
    ca.write_text(nurse.get("/wearables/authority.pem").body)
    made = nurse.post("/wearables", {"name": "Band 7"}).body
    yield Ward(pair, nurse, Place(port, ca), made["id"], made["password"])
    pair.ledger.close()


class Page(threading.Thread):
    """An open page: what its one stream of events says, and when."""

    def __init__(self, caller: Caller) -> None:
        super().__init__(daemon=True)
        self.events: list[tuple[float, str]] = []
        self.open = threading.Event()
        context = ssl._create_unverified_context()
        self._connection = http.client.HTTPSConnection(
            "127.0.0.1", caller.port, context=context, timeout=60
        )
        cookies = "; ".join(f"{name}={text}" for name, text in caller.cookies.items())
        self._connection.request("GET", "/live", headers={"Cookie": cookies})
        self._socket = self._connection.sock
        self._answer = self._connection.getresponse()

    def __enter__(self) -> Self:
        self.start()
        assert self.open.wait(60)
        return self

    def __exit__(self, *exception: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self.join(30)
        self._answer.close()
        self._connection.close()

    def run(self) -> None:
        for raw in self._answer:
            line = raw.decode().strip()
            if line.startswith("retry:"):
                self.open.set()
            if line.startswith("event:"):
                self.events.append((time.monotonic(), line.removeprefix("event: ")))

    def count(self, kind: str) -> int:
        return sum(found == kind for _, found in self.events)


def alarms(ward: Ward) -> Any:
    return ward.nurse.get("/alarms").body["alarms"]


def test_a_reading_lands_at_the_hub_once(ward: Ward) -> None:
    before = ward.pair.ledger.count(READINGS)
    with ward.client() as client:
        receipts = []
        for _ in range(3):
            client.receipts.clear()
            receipts.append(client.send("once", 1_795_400_000_000, spo2=97, pulse=71))
    assert len({receipt["stored"] for receipt in receipts}) == 1
    identity = bytes.fromhex(receipts[0]["stored"])
    wait_until("the reading at the hub", lambda: identity in ward.pair.ledger.ids(READINGS))
    wait_until("a drained box", ward.pair.box.drained)
    assert ward.pair.ledger.count(READINGS) == before + 1
    assert ward.pair.ledger.logged(READINGS) == before + 1
    (shown,) = ward.nurse.get("/wearables").body["devices"]
    assert (shown["wearable"]["name"], shown["state"]["stored"]) == ("Band 7", 1)


def test_an_alarm_is_told_to_an_open_page_and_acknowledged_by_name(ward: Ward) -> None:
    with Page(ward.nurse) as page, ward.client() as client:
        began = time.monotonic()
        client.send("danger", spo2=82)
        wait_until("the alarm on the page", lambda: page.count("alarm") == 1)
        took = next(at for at, kind in page.events if kind == "alarm") - began
        print(f"from the device's publish to the page: {1000 * took:.0f} ms")
        (alarm,) = alarms(ward)
        found = (alarm["severity"], alarm["causes"], alarm["acknowledged_by"])
        assert found == ("urgent", ["spo2"], None)
        strip = ward.nurse.call("GET", "/alarms/strip", headers={"Accept": "text/html"}).body
        assert 'data-ringing="urgent"' in strip

        said = ward.nurse.post(f"/alarms/{alarm['id']}/acknowledge", {"note": "已吸氧"})
        assert said.status == 200, said
        assert ward.nurse.post(f"/alarms/{alarm['id']}/acknowledge").status == 409
        wait_until("the page hears of it", lambda: page.count("alarm") == 2)
    (alarm,) = alarms(ward)
    assert (alarm["acknowledged_by"]["name"], alarm["note"]) == ("测试nurse.one", "已吸氧")
    wait_until("both at the hub", lambda: ward.pair.ledger.count(ALARMS) == 2)


def test_kill_9_of_listener_and_box_loses_nothing_that_was_promised(ward: Ward) -> None:
    promised = []
    with ward.client() as client:
        for number in range(6):
            if number == 2:
                listener = int(ward.nurse.get("/wearables").body["listener_pid"])
                os.kill(listener, signal.SIGKILL)
            elif number == 4:
                ward.pair.box.kill()
                ward.pair.box.start()
            receipt = client.send(f"k{number}", 1_795_400_000_000 + number, pulse=70 + number)
            promised.append(receipt["stored"])
    assert len(set(promised)) == 6
    found: list[str] = []

    def all_there() -> bool:
        found[:] = at_the_hub(ward)
        return set(promised) <= set(found)

    wait_until("all that was promised, at the hub", all_there)
    wait_until("a drained box", ward.pair.box.drained)
    assert len(found) == len(set(found))
    pulses = [each.body.measurements[0].value or 0 for each in minutes(ward)[0].readings()]
    assert pulses == sorted(pulses), "one after the other, in a minute of their own"


def minutes(ward: Ward) -> list[Minute]:
    with hub_sheets(ward.pair.hub) as sheets:
        return sheets.find(Minute)


def at_the_hub(ward: Ward) -> list[str]:
    """Readings that the hub knows, singly or in minutes; one name for each time that it has it."""
    with hub_sheets(ward.pair.hub) as sheets:
        singly = [each.id for each in sheets.find(Reading)]
    return singly + [reading.id for each in minutes(ward) for reading in each.readings()]


def test_a_stream_and_its_danger_are_on_both_charts_at_once(ward: Ward) -> None:
    wanted = {"name": "张三", "id_number": "11010519491231002X"}
    patient = ward.nurse.post("/patients", wanted).body["id"]
    shown = ward.nurse.get(f"/patients/{patient}").body["patient"]
    who = {"number": shown["number"], "second": "张三"}
    bound = ward.nurse.post("/bindings", who | {"device": ward.device})
    assert bound.status == 200, bound
    with ward.client() as client:
        now = now_ms()
        for number in range(5):
            client.send(f"s{number}", now + number, pulse=70 + number)
        client.send("low", now + 5, spo2=80)
    trend = ward.nurse.get(f"/patients/{patient}/vitals.json?hours=1").body["trend"]
    assert trend["columns"]["pulse"] == [70, 71, 72, 73, 74, None]
    assert trend["columns"]["spo2"] == [*(None,) * 5, 80]
    assert trend["ends"]["pulse"] == []

    def at_the_hub() -> Trend:
        with hub_sheets(ward.pair.hub) as sheets:
            return bedside.trend(sheets, patient, trend["times"][0])

    wait_until("the same at the hub", lambda: at_the_hub().times == trend["times"])
    assert msgspec.to_builtins(at_the_hub()) == trend
    (minute,) = (each for each in minutes(ward) if each.patient_id == patient)
    assert len(minute.readings()) == 5, "all but the first, which nobody knew for a stream's"


def test_who_is_shut_out_is_told_so(ward: Ward) -> None:
    assert ward.nurse.post(f"/wearables/{ward.device}/revoke").status == 200
    with ward.client() as client:
        assert client.refused == "Not authorized"
    assert ward.nurse.post(f"/wearables/{ward.device}/revoke").status == 409
    assert ward.nurse.post(f"/wearables/{'0' * 32}/revoke").status == 404
