"""A hub that is lost and comes back from a backup that is older than what it had."""

import shutil
from pathlib import Path

from lab import Lab, Postgres, free_ports, lab, wait_until

from .lab_fixtures import HubLedger, item, notes, put_all, rows
from .modality import series, storescu


class Site:
    """A hub that calls safe what a backup holds, and a box with records and images."""

    def __init__(self, place: Lab, database: str | None) -> None:
        (port,) = free_ports(1)
        self.place, self.database = place, database
        self.hub = place.hub(database=database, safe="backup").start().wait()
        self.box = place.box("BOX-1", dicom_port=port).start()
        self.node = self.box.enrol(self.hub)
        self.port = port
        self.backups = place.folder / "backups"
        self.key = place.folder / "recovery.key"
        self.key.touch(0o600)
        self.key.write_text(self.hub.ask("recovery-key"))
        self.box.ask("modalities", "--admit", "CT1@127.0.0.1", "--by", "Dr Wang")

    def images(self, folder: Path, count: int) -> None:
        """Let a modality send some."""
        folder.mkdir()
        files = series(folder, count)
        assert storescu(self.port, files).good == files

    def images_waiting(self) -> int:
        """Images of which the box has no receipt."""
        lanes = self.box.json("status")["lanes"]
        return next(int(lane["waiting"]) for lane in lanes if lane["lane"] == "images")

    def images_at_hub(self) -> int:
        """Whole ones."""
        return len(list(Path(self.hub.state, "images").glob("*/*/*.original")))

    def states(self, found: list[bytes]) -> set[str]:
        return {item(self.box, key)["state"] for key in found}

    def backup(self) -> None:
        assert "verified" in self.hub.ask("backup", str(self.backups))

    def destroy(self, postgres: Postgres | None) -> None:
        """The machine of the hub is gone, and all that was on it."""
        self.hub.kill()
        shutil.rmtree(self.hub.state)
        if postgres is not None:
            postgres.empty()

    def restore(self) -> None:
        said = self.hub.ask("restore", str(self.backups), "--key", str(self.key))
        assert "records are back" in said


def lost_and_restored(postgres: Postgres | None, folder: Path) -> None:
    """Records, alarms, images; nothing lost, nothing twice, in order; and the box says so."""
    with lab() as made:
        site = Site(made, None if postgres is None else postgres.url)
        box, hub = site.box, site.hub
        kept = put_all(box, notes(30))
        site.images(folder / "before", 2)
        wait_until("commits", lambda: site.states(kept) == {"committed"})
        wait_until("images at the hub", lambda: site.images_at_hub() == 2)
        assert site.images_waiting() == 2  # the hub has them, and says nothing before a backup
        site.backup()
        wait_until("safe marks", lambda: site.states(kept) == {"safe"})
        wait_until("receipts", lambda: site.images_waiting() == 0)

        later = put_all(box, notes(20))
        alarms = put_all(box, notes(5), "alarm.clinic")
        site.images(folder / "after", 2)
        wait_until("commits", lambda: site.states(later + alarms) == {"committed"})
        wait_until("images at the hub", lambda: site.images_at_hub() == 4)
        hub.ask("open", later[0].hex(), "--by", "Dr Wang")
        wait_until("a record that was seen", lambda: item(box, later[0])["seen_by"] == "Dr Wang")
        site.destroy(postgres)
        lost = put_all(box, notes(1))
        site.restore()
        hub.start().wait()

        after = [*lost, *put_all(box, notes(10))]
        ledger = HubLedger(hub, site.database)
        try:
            everything = kept + later + after
            wait_until("all of it", lambda: ledger.count() >= len(everything))
            wait_until("alarms", lambda: ledger.count("alarm.clinic") == 5)
            ledger.check(everything)
            ledger.check(alarms, "alarm.clinic")
        finally:
            ledger.close()
        hub.ask("open", after[0].hex(), "--by", "Dr Li")
        wait_until("down records", lambda: item(box, after[0])["seen_by"] == "Dr Li")
        assert item(box, later[0])["seen_by"] == "Dr Wang"  # what came down once is not undone
        assert [row for row in rows(hub, "notices") if row["code"] == "forked"] == []
        assert "the hub came back at an earlier state" in box.ask("status")
        wait_until("the later images", lambda: site.images_at_hub() == 4)
        assert site.states(kept) == {"safe"}
        assert site.states(alarms) == {"committed"}
        site.backup()
        wait_until("a drained box", box.drained)
        wait_until("receipts of all", lambda: site.images_waiting() == 0)
