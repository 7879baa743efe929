"""A box whose clock is wrong: it enrols, certificates are judged right, order is kept."""

import time
from collections.abc import Iterator

import pytest

from lab import HubProgram, Lab, at_time, lab, wait_until
from support.lab_fixtures import HubLedger, needs_tool, notes, put_all

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
