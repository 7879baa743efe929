"""A hub that hangs while its broker lives: sessions stand, and nobody answers."""

import signal
from collections.abc import Iterator

import pytest

from lab import BoxProgram, HubProgram, lab, wait_until
from support.lab_fixtures import HubLedger, notes, put_all


@pytest.fixture
def pair() -> Iterator[tuple[HubProgram, BoxProgram]]:
    with lab() as made:
        hub, box = made.hub().start().wait(), made.box().start()
        box.enrol(hub)
        yield hub, box
        if hub.process is not None:  # a stopped program does not end
            hub.process.send_signal(signal.SIGCONT)


def test_a_box_whose_hello_is_not_answered_goes_on_recording(
    pair: tuple[HubProgram, BoxProgram],
) -> None:
    """What grows while a hello is unanswered must wait, and must not keep the box busy."""
    hub, box = pair
    assert hub.process is not None
    hub.process.send_signal(signal.SIGSTOP)
    box.kill()
    box.start().wait()

    def greets() -> bool:
        return any(link["state"] == "greeting" for link in (box.status() or {"links": []})["links"])

    wait_until("a box that waits for its welcome", greets)
    ids = put_all(box, notes(100)) + put_all(box, notes(100))
    assert greets()
    assert not box.drained()
    hub.process.send_signal(signal.SIGCONT)
    wait_until("a drained box", box.drained)
    ledger = HubLedger(hub)
    try:
        wait_until("an applied log", lambda: len(ledger.ids()) >= len(ids))
        assert ledger.ids() == ids
    finally:
        ledger.close()


def test_what_waits_to_go_down_calls_the_box_after_the_hub_was_restarted(
    pair: tuple[HubProgram, BoxProgram],
) -> None:
    """The receipt is written while the box is away, and it has nothing to say by itself."""
    hub, box = pair
    (identity,) = put_all(box, notes(1))
    ledger = HubLedger(hub)
    try:
        wait_until("an applied record", lambda: ledger.ids() == [identity])
    finally:
        ledger.close()
    box.kill()
    hub.ask("open", identity.hex(), "--by", "Dr Wang")
    box.start().wait()
    wait_until("a record that was seen", lambda: box.ask("item", identity.hex()).startswith("seen"))
