"""Real devices at a real broker: what is promised is kept once, and nobody speaks for another."""

import asyncio

import pytest

from lab import wait_until
from lianzhen_edge.devices.ingress import MAX_WAITING
from lianzhen_edge.devices.sheets import Refusal, WearableLogin, WearableState
from lianzhen_edge.journal.room import Share
from lianzhen_protocol.alarms import Alarm, AlarmState, Condition, Severity
from lianzhen_protocol.joins import tray
from lianzhen_protocol.vitals import ClockMark, Parameter, Reading, Vitals
from lianzhen_protocol.wearables import Wearable
from support.lab_fixtures import needs_tool
from support.wearable import Place, WearableClient, message, now_ms

from .conftest import NURSE, Ward

pytestmark = needs_tool("mosquitto")
DAY = 86_400_000


async def test_a_message_is_one_reading_however_often_it_is_sent(ward: Ward) -> None:
    made = await ward.add()

    def three_times(client: WearableClient) -> list[dict[str, str]]:
        found = []
        for _ in range(3):
            client.receipts.clear()
            found.append(client.send("m1", 1_795_400_000_000, spo2=97, pulse=80))
        return found

    receipts = await ward.use(made, three_times)
    assert len({receipt["stored"] for receipt in receipts}) == 1
    (reading,) = ward.journal.sheets.find(Reading)
    assert reading.id == receipts[0]["stored"]
    assert {found.parameter: found.value for found in reading.body.measurements} == {
        Parameter.SPO2: 97,
        Parameter.PULSE: 80,
    }
    assert reading.body.device_ms == 1_795_400_000_000
    assert abs(reading.body.corrected_ms - ward.clock.now_ms) < 20_000
    (item,) = tray(ward.journal.sheets)  # nobody wears it
    assert (item.device, reading.patient_id) == (made.device_id, "")


async def test_a_wrong_password_comes_nowhere(ward: Ward) -> None:
    made = await ward.add()

    def knock(place: Place, device: str, password: str) -> str:
        with WearableClient(place, device, password) as client:
            return client.refused

    for place in (ward.tls, ward.plain):
        for device, password in (
            (made.device_id, "guess"),
            (made.device_id, ""),
            ("core", made.password),
            ("0" * 32, made.password),
        ):
            assert await asyncio.to_thread(knock, place, device, password) == "Not authorized"
        assert await asyncio.to_thread(knock, place, *made) == ""


async def test_a_device_speaks_for_itself_only_and_hears_nobody_else(ward: Ward) -> None:
    spy, victim = await ward.add("spy"), await ward.add("victim")

    def pry(client: WearableClient) -> list[tuple[str, bytes]]:
        for topic in ("#", "devices/#", "devices/+/vitals", f"devices/{victim.device_id}/receipts",
                      "$SYS/#"):  # fmt: skip
            client.subscribe(topic)
        for topic in (f"devices/{victim.device_id}/vitals", f"devices/{victim.device_id}/receipts",
                      f"devices/{spy.device_id}/vitals/x", "devices/x/vitals"):  # fmt: skip
            client.publish(message("foreign", now_ms(), now_ms(), pulse=200), topic)
        with WearableClient(ward.plain, *victim) as other:
            other.send("own", pulse=70)
            assert "foreign" not in other.receipts
        client.send("last", pulse=71)
        return client.got

    got = await ward.use(spy, pry)
    assert {topic for topic, _ in got} == {f"devices/{spy.device_id}/receipts"}
    found = {
        each.body.device_id: each.body.message_id for each in ward.journal.sheets.find(Reading)
    }
    assert found == {victim.device_id: "own", spy.device_id: "last"}


async def test_what_cannot_be_used_is_set_aside_and_stops_nothing(ward: Ward) -> None:
    made = await ward.add()

    def mumble(client: WearableClient) -> dict[str, dict[str, str]]:
        client.publish(b"\xff\x00 no JSON")
        client.publish(b'{"id": "cut", "measured_ms": 1')
        client.publish(b" " * 20_000)
        client.publish(message("unit", now_ms(), now_ms(), pulse={"value": 1, "unit": "bpm"}))
        client.send("high", spo2=140, pulse=80)
        client.send("good", pulse=81)
        return client.receipts

    receipts = await ward.use(made, mumble)
    assert {name: receipt.get("code", "") for name, receipt in receipts.items()} == {
        "cut": "reading-malformed",
        "unit": "unit-unknown",
        "high": "",
        "good": "",
    }
    refused = ward.journal.sheets.find(Refusal, owner=made.device_id)
    codes = sorted(each.code for each in refused)
    assert codes == ["implausible", *["reading-malformed"] * 3, "unit-unknown"]
    values = {
        found.parameter: found.value
        for each in ward.journal.sheets.find(Reading)
        if each.body.message_id == "high"
        for found in each.body.measurements
    }
    assert values == {Parameter.SPO2: None, Parameter.PULSE: 80}
    state = ward.journal.sheets.get(WearableState, made.device_id)
    assert state is not None
    assert (state.stored, state.refused) == (2, 5)


@pytest.mark.parametrize(
    ("wrong", "mark"),
    [(365 * DAY, ClockMark.OFFSET), (-365 * DAY, ClockMark.OFFSET), (None, ClockMark.UNSET)],
)
async def test_a_wrong_clock_is_taken_out(ward: Ward, wrong: int | None, mark: ClockMark) -> None:
    made = await ward.add()
    theirs = 5000 if wrong is None else now_ms() + wrong
    await ward.use(made, lambda client: client.send("m", theirs, pulse=80))
    (reading,) = ward.journal.sheets.find(Reading)
    assert (reading.body.clock, reading.body.device_ms) == (mark, theirs)
    assert abs(reading.body.corrected_ms - ward.clock.now_ms) < 10_000


async def test_a_device_that_is_shut_out_is_out_at_once(ward: Ward) -> None:
    made, other = await ward.add(), await ward.add("other")

    loop = asyncio.get_running_loop()

    def stay(client: WearableClient) -> str:
        client.send("m", pulse=80)
        with WearableClient(ward.tls, *other) as bystander:
            out = ward.devices.revoke(made.device_id, NURSE)
            asyncio.run_coroutine_threadsafe(out, loop).result(30)
            # It comes back by itself, and is refused.
            wait_until("a refusal", lambda: bool(client.refused))
            assert bystander.connected
        return client.refused

    assert await ward.use(made, stay) == "Not authorized"
    device = ward.journal.sheets.get(Wearable, made.device_id)
    assert device is not None
    assert device.revoked_by is not None
    assert device.revoked_by.name == NURSE.name
    assert [each.id for each in ward.journal.sheets.find(WearableLogin)] == [other.device_id]


async def test_who_floods_loses_only_their_own(ward: Ward) -> None:
    loud, quiet = await ward.add("loud"), await ward.add("quiet")

    def flood(client: WearableClient) -> str:
        for number in range(3 * MAX_WAITING):
            client.publish(message(f"f{number}", now_ms(), now_ms(), pulse=80))
        with WearableClient(ward.tls, *quiet) as other:
            return other.send("one", pulse=70)["stored"]

    stored = await ward.use(loud, flood)
    assert ward.journal.sheets.get(Reading, stored) is not None


async def test_a_danger_rings_in_the_same_commit_as_its_reading(ward: Ward) -> None:
    made = await ward.add()
    rung: list[str] = []
    ward.journal.on_change(
        lambda changed: rung.extend(key for kind, key in changed if kind == "alarm")
    )
    await ward.use(made, lambda client: client.send("m", spo2=84, pulse=80))
    (alarm,) = ward.journal.sheets.find(Alarm, state=AlarmState.RINGING)
    assert rung == [alarm.id]
    assert (alarm.condition, alarm.severity) == (Condition.NEWS2, Severity.URGENT)
    assert alarm.causes == ("spo2",)
    assert set(alarm.missing) >= {"respiration", "consciousness"}
    assert ward.journal.sheets.get(Vitals, made.device_id) is not None


async def test_a_full_disk_gives_no_receipt_and_says_so(ward: Ward) -> None:
    made = await ward.add()
    share, ward.journal.share = ward.journal.share, Share(reserve_bytes=1 << 62)

    def persist(client: WearableClient) -> str:
        client.publish(message("m", 1_795_400_000_000, now_ms(), pulse=80))
        wait_until("a sentence", lambda: "the disk is full" in ward.devices.problem)
        wait_until("a reason", lambda: "" in client.receipts)
        assert set(client.receipts) == {""}, "no message is named, so none is forgotten"
        assert client.receipts[""]["code"] == "journal-full"
        ward.journal.share = share  # somebody made space
        return client.send("m", 1_795_400_000_000, pulse=80)["stored"]

    stored = await ward.use(made, persist)
    assert [each.id for each in ward.journal.sheets.find(Reading)] == [stored]
    assert ward.devices.problem == ""
