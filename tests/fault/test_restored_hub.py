"""A hub that comes back from an older backup: the boxes notice, and what they have goes on."""

import shutil
from pathlib import Path

import pytest

from lab import lab
from support.lab_fixtures import HubLedger, enrolled_pair, notes, put_all, rows, settled
from support.restoring import lost_and_restored


def copied(state: Path, to: Path) -> Path:
    """A backup of a program that is not running."""
    return Path(shutil.copytree(state, to, ignore=shutil.ignore_patterns("*.sock")))


def test_a_restored_hub_is_told_what_it_has_lost() -> None:
    """It had called safe what only its own disk had: that is gone, and nothing else is."""
    with lab() as made:
        pair = enrolled_pair(made)
        kept = put_all(pair.box, notes(30))
        settled(pair.box, pair.ledger, 30)
        pair.box.stop()
        pair.hub.stop()
        backup = copied(pair.hub.state, made.folder / "backup")
        pair.hub.start().wait()
        pair.box.start().wait()
        gone = put_all(pair.box, notes(20))
        settled(pair.box, pair.ledger, 50)
        pair.ledger.close()
        pair.hub.stop()
        shutil.rmtree(pair.hub.state)
        backup.rename(pair.hub.state)
        pair.hub.start().wait()

        after = put_all(pair.box, notes(10))
        ledger = HubLedger(pair.hub)  # another file by the same name
        try:
            settled(pair.box, ledger, 40)
            found = ledger.ids()
            assert sorted(found) == sorted(kept + after)
            assert not set(gone) & set(found)
            told = [row["detail"] for row in rows(pair.hub, "notices") if row["code"] == "forked"]
            assert [detail.partition(";")[0] for detail in told] == ["receiver-behind-safe"]
        finally:
            ledger.close()


@pytest.mark.timeout(300)
def test_what_a_backup_lacks_the_boxes_bring_again(tmp_path: Path) -> None:
    """On SQLite; tests/soak has the same on PostgreSQL."""
    lost_and_restored(None, tmp_path)
