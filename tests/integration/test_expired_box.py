"""A box that was off for longer than its certificate lives: it records, asks, and drains."""

from lab import LabError, at_time, lab, wait_until
from support.lab_fixtures import HubLedger, needs_tool, notes, put_all


@needs_tool("faketime")
def test_a_box_whose_certificate_ran_out_is_approved_again_and_loses_nothing() -> None:
    """Enrolled forty days ago, with a certificate for thirty, and its backlog never sent."""
    with lab() as made:
        hub, box = made.hub(), made.box()
        hub.prefix = box.prefix = at_time("-40d")
        hub.start()
        box.start()

        def claimed() -> bool:
            try:
                box.ask("claim", hub.ask("claim", "BOX-1", "--clinic", "c", "--text"))
            except LabError:
                return False
            return True

        # The broker lives in the present, where the hub's revocation list is stale: no session
        # comes about, and what is put stays on the box.
        wait_until("a claim", claimed)
        wait_until("an enrolled box", lambda: (box.status() or {}).get("state") == "enrolled")
        ids = put_all(box, notes(300))
        hub.stop()
        box.stop()

        hub.prefix = box.prefix = ()
        hub.start().wait()
        box.start()

        def waits() -> bool:
            return any(row["waiting_for_approval"] for row in hub.json("nodes"))

        wait_until("a box that asks for approval", waits)
        assert not box.drained()
        node = hub.json("nodes")[0]["node"]
        hub.ask("approve", node)
        wait_until("a drained box", box.drained)
        assert box.status()["node"] == node
        ledger = HubLedger(hub)
        try:
            wait_until("an applied log", lambda: len(ledger.ids()) >= len(ids))
            assert ledger.ids() == ids
        finally:
            ledger.close()
