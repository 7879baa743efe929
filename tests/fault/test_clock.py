"""A box whose clock is wrong: it enrols, certificates are judged right, order is kept."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import HubProgram, Lab, at_time, free_ports, lab, wait_until
from lianzhen_protocol.accounts import Role
from lianzhen_protocol.vitals import ClockMark, Reading
from support.consoles import clinic_people
from support.lab_fixtures import HubLedger, hub_sheets, needs_tool, notes, put_all
from support.wearable import Place, WearableClient

pytestmark = needs_tool("faketime")

WRONG = {
    "1970": "@1970-01-01 00:00:10",
    "a year behind": "-365d",
    "a year ahead": "+365d",
}


@pytest.fixture(scope="module")
def place() -> Iterator[tuple[Lab, HubProgram, HubLedger]]:
    with lab() as made:
        hub = made.hub().start().wait()
        ledger = HubLedger(hub)
        yield made, hub, ledger
        ledger.close()


@pytest.mark.parametrize("wrong", WRONG)
def test_a_box_enrols_and_delivers_under_a_wrong_clock(
    place: tuple[Lab, HubProgram, HubLedger], wrong: str
) -> None:
    """Its first word to the hub needs a time; the hub's signed answer gives it one."""
    made, hub, ledger = place
    box = made.box("BOX-" + wrong.replace(" ", "-").upper())
    box.prefix = at_time(WRONG[wrong])
    box.start()
    stream = "record." + wrong.replace(" ", "-")
    node = box.enrol(hub)
    ids = put_all(box, notes(50), stream) + put_all(box, notes(50), stream)
    wait_until("a drained box", box.drained)
    wait_until("an applied log", lambda: ledger.count(stream) == len(ids))
    assert ledger.ids(stream, node) == ids
    found = box.status()
    assert abs(found["now_ms"] - time.time() * 1000) < 10_000, (
        "the box has taken the hub's time over"
    )
    assert abs(found["clock_offset_ms"]) > 24 * 3600 * 1000, "and its own clock is still wrong"


def test_a_clock_that_jumps_between_starts_changes_no_order(
    place: tuple[Lab, HubProgram, HubLedger],
) -> None:
    """Ahead, then right, then in 1970: sequence numbers carry the order, and not the time."""
    made, hub, ledger = place
    box = made.box("BOX-JUMPS")
    stream = "record.jumps"
    box.start()
    box.enrol(hub)
    ids: list[bytes] = []
    for offset in ("+200d", None, "@1970-01-01 00:00:10"):
        box.stop()
        box.prefix = at_time(offset) if offset else ()
        box.start().wait()
        ids += put_all(box, notes(30), stream)
        wait_until("a box that is online", box.online)
    wait_until("a drained box", box.drained)
    wait_until("an applied log", lambda: ledger.count(stream) == len(ids))
    assert ledger.ids(stream) == ids


class LeapingClock:
    """The wall clock of a running box: seconds that it is wrong by, from a file it looks at."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.leap(0)

    def leap(self, seconds: int) -> None:
        beside = self._file.with_suffix(".new")
        beside.write_text(f"{seconds:+d}\n")
        beside.rename(self._file)

    def words(self) -> tuple[str, ...]:
        """Before a command."""
        plain = [word for word in at_time("+0") if not word.startswith("FAKETIME=")]
        return (*plain, f"FAKETIME_TIMESTAMP_FILE={self._file}", "FAKETIME_NO_CACHE=1")


def test_leaps_in_a_stream_change_no_order_and_all_three_times_are_at_the_hub(
    place: tuple[Lab, HubProgram, HubLedger], tmp_path: Path
) -> None:
    """Minutes ahead and back and a year either way, while the box runs; then its line comes anew,
    and a wearable whose own clock was never set.
    """
    made, hub, ledger = place
    (device,) = free_ports(1)
    box = made.box("BOX-LEAPS", device_port=device)
    clock, stream = LeapingClock(tmp_path / "clock"), "record.leaps"
    box.prefix = clock.words()
    box.start()
    node, ids = box.enrol(hub), []
    for seconds in (0, 7 * 60, -12 * 60, -365 * 86_400, 365 * 86_400):
        clock.leap(seconds)
        ids += put_all(box, notes(10), stream)
        found = box.status()
        assert abs(found["clock_offset_ms"] + seconds * 1000) < 60_000, "the box sees the leap"
        assert abs(found["now_ms"] - time.time() * 1000) < 60_000, "and does not believe it"
    hub.stop()
    ids += put_all(box, notes(10), stream)
    hub.start().wait()  # certificates are judged anew, a year ahead by the wall
    wait_until("a drained box", box.drained)
    wait_until("an applied log", lambda: ledger.count(stream) == len(ids))
    assert ledger.ids(stream, node) == ids

    nurse = clinic_people(box).of(Role.NURSE).caller
    trusted = tmp_path / "trusted.pem"
    trusted.write_text(nurse.get("/wearables/authority.pem").body)
    band = nurse.post("/wearables", {"name": "Band 7"}).body
    with WearableClient(Place(device, trusted), band["id"], band["password"]) as client:
        stored = client.send("m1", 86_400_000, pulse=80)["stored"]
    identity = bytes.fromhex(stored)
    wait_until("a reading", lambda: identity in ledger.ids("vitals.readings", node))
    with hub_sheets(hub) as sheets:
        reading = sheets.get(Reading, stored)
    assert reading is not None
    now, said = time.time() * 1000, reading.body
    assert (said.device_ms, said.clock) == (86_400_000, ClockMark.UNSET)
    for at_ms in (said.received_ms, said.corrected_ms, ledger.received_ms(identity)):
        assert abs(at_ms - now) < 300_000
