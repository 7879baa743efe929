"""Cards that are restored, copied or moved: histories that differ, on the real programs."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import BoxProgram, Lab, lab, wait_until
from support.lab_fixtures import (
    HubLedger,
    Pair,
    enrolled_pair,
    notes,
    online,
    put_all,
    rows,
    settled,
    status,
)


@pytest.fixture
def lab_and_pair() -> Iterator[tuple[Lab, Pair]]:
    with lab() as made:
        found = enrolled_pair(made)
        yield made, found
        found.ledger.close()


def reasons(pair: Pair) -> list[str]:
    """Why epochs were left, as the admins were told."""
    found = [row for row in rows(pair.hub, "notices") if row["code"] == "forked"]
    return [row["detail"].partition(";")[0] for row in found]


def copied(state: Path, to: Path) -> Path:
    """A card's image: everything but the sockets of a program that is not running."""
    shutil.copytree(state, to, ignore=shutil.ignore_patterns("*.sock"))
    return to


def started(box: BoxProgram) -> None:
    """Start it and wait until its journal is open."""
    box.start().wait()
    wait_until("an open journal", lambda: (status(box) or {}).get("state") == "enrolled")


def applied_once(pair: Pair, promised: set[bytes], stream: str = "record.diagnostic") -> None:
    """Everything that any history promised is applied, each once."""
    found = pair.ledger.ids(stream)
    assert len(found) == len(set(found))
    assert promised <= set(found)


def test_a_restored_card_forks_and_what_the_lost_history_had_sent_stays(
    lab_and_pair: tuple[Lab, Pair],
) -> None:
    made, pair = lab_and_pair
    before = put_all(pair.box, notes(50))
    settled(pair.box, pair.ledger, 50)
    pair.box.stop()
    image = copied(pair.box.state, made.folder / "image")
    started(pair.box)
    lost = put_all(pair.box, notes(40))
    settled(pair.box, pair.ledger, 90)
    pair.box.kill()

    shutil.rmtree(pair.box.state)
    image.rename(pair.box.state)
    started(pair.box)
    after = put_all(pair.box, notes(30))
    settled(pair.box, pair.ledger, 120)
    applied_once(pair, {*before, *lost, *after})
    assert reasons(pair) == ["receiver-ahead"]
    own_epochs = {epoch for epoch, _ in pair.ledger.places()}
    assert len(own_epochs) == 2, "both histories are kept"


def test_a_card_that_wakes_up_behind_its_unsent_records_loses_none(
    lab_and_pair: tuple[Lab, Pair],
) -> None:
    """Imaged with a backlog; the backlog was sent, and then the image came back."""
    made, pair = lab_and_pair
    pair.hub.stop()
    backlog = put_all(pair.box, notes(60))
    pair.box.stop()
    image = copied(pair.box.state, made.folder / "image")
    pair.hub.start().wait()
    started(pair.box)
    more = put_all(pair.box, notes(20))
    settled(pair.box, pair.ledger, 80)
    pair.box.kill()
    shutil.rmtree(pair.box.state)
    image.rename(pair.box.state)
    started(pair.box)
    after = put_all(pair.box, notes(10))
    settled(pair.box, pair.ledger, 90)
    applied_once(pair, {*backlog, *more, *after})
    assert reasons(pair), "a fork is noticed"


def test_twins_of_one_card_both_keep_their_history(lab_and_pair: tuple[Lab, Pair]) -> None:
    made, pair = lab_and_pair
    common = put_all(pair.box, notes(20))
    settled(pair.box, pair.ledger, 20)
    pair.box.stop()
    twin: BoxProgram = made.box("BOX-TWIN")
    copied(pair.box.state, twin.state)
    started(pair.box)
    started(twin)
    wait_until("twins that are online", lambda: online(pair.box) and online(twin))
    first = put_all(pair.box, notes(25))
    second = put_all(twin, notes(35))
    more = put_all(pair.box, notes(5))
    settled(pair.box, pair.ledger, 85)
    settled(twin, pair.ledger, 85)
    applied_once(pair, {*common, *first, *second, *more})
    assert reasons(pair), "a fork is noticed"


def test_a_card_in_another_machine_forks_before_it_speaks(
    lab_and_pair: tuple[Lab, Pair],
) -> None:
    made, pair = lab_and_pair
    serial = made.folder / "serial-number"
    serial.write_text("board-1")
    pair.box.stop()
    with pair.box.config.open("a") as config:
        config.write(f'hardware_id_file = "{serial}"\n')
    started(pair.box)
    at_home = put_all(pair.box, notes(15))
    settled(pair.box, pair.ledger, 15)
    assert reasons(pair) == []
    pair.box.stop()

    serial.write_text("board-2")
    started(pair.box)
    abroad = put_all(pair.box, notes(10))
    settled(pair.box, pair.ledger, 25)
    applied_once(pair, {*at_home, *abroad})
    assert reasons(pair) == ["foreign-hardware"]


def test_a_restored_hub_is_told_what_it_has_lost(lab_and_pair: tuple[Lab, Pair]) -> None:
    """This hub called safe what only its own disk had; the backup is older, and boxes notice."""
    made, pair = lab_and_pair
    kept = put_all(pair.box, notes(30))
    settled(pair.box, pair.ledger, 30)
    pair.box.stop()
    pair.hub.stop()
    backup = copied(pair.hub.state, made.folder / "backup")
    pair.hub.start().wait()
    started(pair.box)
    gone = put_all(pair.box, notes(20))
    settled(pair.box, pair.ledger, 50)
    pair.hub.stop()
    shutil.rmtree(pair.hub.state)
    backup.rename(pair.hub.state)
    pair.hub.start().wait()

    after = put_all(pair.box, notes(10))
    restored = pair._replace(ledger=HubLedger(pair.hub))  # another file by the same name
    try:
        settled(pair.box, restored.ledger, 40)
        applied_once(restored, {*kept, *after})
        assert not set(gone) & set(restored.ledger.ids())
        assert reasons(pair) == ["receiver-behind-safe"]
    finally:
        restored.ledger.close()
