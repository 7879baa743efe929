"""The root is changed under way: boxes move, one that was off comes in, one is left behind."""

import subprocess
from pathlib import Path

import pytest

from lab import BoxProgram, HubProgram, LabError, lab, wait_until
from support.lab_fixtures import HubLedger, item, notes, put_all, rows


@pytest.mark.timeout(300)
def test_a_root_is_changed_and_no_box_is_lost() -> None:
    with lab() as made:
        hub = made.hub().start().wait()
        box, late = made.box("BOX-1").start(), made.box("BOX-2").start()
        node, other = box.enrol(hub), late.enrol(hub)
        first = put_all(box, notes(5))
        wait_until("a drained box", box.drained)
        box.stop()
        late.stop()

        with pytest.raises(LabError, match="another program is running"):
            hub.ask("ca", "rotate")
        hub.stop()
        hub.ask("ca", "rotate")
        hub.start().wait()
        said = hub.ask("ca", "status")
        assert "follows" in said
        assert f"not yet moved: {node}" in said

        box.start().wait()  # it was off, and knows the old root alone
        first += put_all(box, notes(5))
        wait_until("a box that moved", lambda: node not in hub.ask("ca", "status"))
        wait_until("a drained box", box.drained)
        assert f"not yet moved: {other}" in hub.ask("ca", "status")

        hub.stop()
        with pytest.raises(LabError, match=f"1 boxes have not moved yet .{other}"):
            hub.ask("ca", "retire")
        hub.ask("ca", "retire", "--anyway")
        assert "PRIVATE" not in Path(hub.state, "ca", "retired.pem").read_text()
        hub.start().wait()
        first += put_all(box, notes(5))
        wait_until(
            "a box that knows the new root",
            lambda: {item(box, key)["state"] for key in first} == {"safe"},
        )

        late.start().wait()  # it was off throughout, and the window is over
        kept = put_all(late, notes(5), "record.late")
        wait_until("a box that says what to do", lambda: "type a new claim" in _status(late))
        late.ask("claim", hub.ask("claim", "BOX-2", "--clinic", "Clinic 2", "--text"))
        wait_until("a question to the admin", lambda: _asks(hub, other))
        hub.ask("approve", other)
        wait_until("a drained box", lambda: late.online() and late.drained())
        assert late.status()["node"] == other
        ledger = HubLedger(hub)
        try:
            wait_until("all of it", lambda: ledger.count("record.late") == 5)
            ledger.check(first)
            ledger.check(kept, "record.late")
        finally:
            ledger.close()
        assert [row for row in rows(hub, "notices") if row["code"] == "forked"] == []


def _status(box: BoxProgram) -> str:
    """What a box says at a terminal, also when its status is not 0."""
    done = subprocess.run(box.command("status"), capture_output=True, text=True, check=False)
    return done.stdout


def _asks(hub: HubProgram, node: str) -> bool:
    found = rows(hub, "nodes")
    return any(row["node"] == node and row["waiting_for_approval"] for row in found)
