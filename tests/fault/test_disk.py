"""Full disks, at the box and at the hub: nothing that was acknowledged is lost, and it recovers."""

import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab import BoxProgram, HubProgram, lab, wait_until
from support.lab_fixtures import (
    HubLedger,
    Note,
    needs_root,
    note,
    put,
    put_all,
    settled,
)

pytestmark = needs_root


class SmallDisk:
    """A file system in memory of a given size, which may grow."""

    def __init__(self, folder: Path, megabytes: int) -> None:
        self.folder = folder
        folder.mkdir(parents=True, mode=0o711)
        size = f"size={megabytes}m,mode=711"
        subprocess.run(["mount", "-t", "tmpfs", "-o", size, "none", str(folder)], check=True)

    def grow(self, megabytes: int) -> None:
        subprocess.run(["mount", "-o", f"remount,size={megabytes}m", str(self.folder)], check=True)

    def remove(self) -> None:
        subprocess.run(["umount", "-l", str(self.folder)], check=True)


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[SmallDisk]:
    disk = SmallDisk(folder, megabytes)
    try:
        yield disk
    finally:
        disk.remove()


def bulky() -> Note:
    """A record that zstd makes no smaller."""
    return note(secrets.token_hex(30_000))


def fill(box: BoxProgram, stream: str, most: int = 1000) -> tuple[list[bytes], str]:
    """Put until the box refuses; what it took, and the code of the refusal."""
    taken: list[bytes] = []
    for _ in range(most):
        one = bulky()
        answer = put(box, [one.entry], stream)
        if answer.status != 201:
            assert answer.status == 507, answer.body
            assert "disk is full" in answer.body["detail"]
            return taken, str(answer.body["code"])
        taken.append(one.id)
    raise AssertionError("the disk never filled")


def pair_on(hub: HubProgram, box: BoxProgram) -> HubLedger:
    hub.start().wait()
    box.start().wait()
    box.enrol(hub)
    return HubLedger(hub)


def test_a_box_whose_disk_is_full_refuses_keeps_and_recovers() -> None:
    with lab() as made:
        hub, box = made.hub(), made.box(disk_reserve_mb=4)
        with small_disk(box.state, 16) as disk:
            ledger = pair_on(hub, box)
            hub.stop()
            taken, code = fill(box, "study.full")
            assert code == "journal-full"
            assert len(taken) > 5
            assert box.status()["state"] == "enrolled", "the program goes on"
            disk.grow(64)
            more = put_all(box, [bulky() for _ in range(10)], "study.full")
            box.kill()
            box.start().wait()
            hub.start().wait()
            settled(box, ledger, len(taken) + len(more), "study.full")
            ledger.check(taken + more, "study.full")
            ledger.close()
            box.kill()


def test_a_full_box_that_may_still_talk_empties_itself_and_takes_records_again() -> None:
    """Space comes back by what the hub has called safe, and by nothing else."""
    with lab() as made:
        hub, box = made.hub(), made.box(disk_reserve_mb=4)
        with small_disk(box.state, 16):
            ledger = pair_on(hub, box)
            hub.stop()
            taken, _ = fill(box, "study.full")
            hub.start().wait()
            settled(box, ledger, len(taken), "study.full")
            again = put_all(box, [bulky() for _ in range(5)], "study.full")
            settled(box, ledger, len(taken) + len(again), "study.full")
            ledger.check(taken + again, "study.full")
            ledger.close()
            box.kill()


def test_a_hub_whose_disk_is_full_acknowledges_nothing_and_drains_later() -> None:
    with lab() as made:
        hub, box = made.hub(), made.box()
        with small_disk(hub.state, 12) as disk:
            ledger = pair_on(hub, box)
            ids = put_all(box, [bulky() for _ in range(40)], "study.full")
            for _ in range(9):
                ids += put_all(box, [bulky() for _ in range(40)], "study.full")
            wait_until("a hub that refuses", lambda: '"database: refuses"' in hub.log.read_text())
            assert not box.drained()
            assert hub.running()
            (stream,) = [row for row in box.status()["streams"] if row["stream"] == "study.full"]
            assert stream["last"] == len(ids)
            assert stream["committed"] < len(ids)
            disk.grow(256)
            settled(box, ledger, len(ids), "study.full")
            ledger.check(ids, "study.full")
            ledger.close()
            hub.kill()
