"""Full disks, at the box and at the hub: nothing that was acknowledged is lost, and it recovers."""

import secrets
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from lab import BoxProgram, HubProgram, free_ports, lab, wait_until
from lianzhen_protocol.accounts import Role
from support.consoles import Caller, clinic_people
from support.lab_fixtures import (
    HubLedger,
    Note,
    needs_root,
    note,
    put,
    put_all,
    settled,
)
from support.modality import association, ct_slice, data_set
from support.patients import registered
from support.small_disk import small_disk
from support.wearable import Place, WearableClient, message

pytestmark = needs_root


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


def images(port: int, first: int) -> tuple[int, int]:
    """Large images until one is refused, 40 at most: how many were taken, and the last status."""
    with association(port) as opened:
        assert opened is not None
        for count in range(40):
            image = ct_slice(first + count, "1.2.3", "1.2.3.4", side=1448)  # 4 MB
            answer = opened.store(data_set(image), str(image.SOPInstanceUID))
            if answer.status:
                assert "full" in answer.comment
                return count, answer.status
    return count + 1, 0


DANGER_MS = 1_795_400_000_000


def wearable(nurse: Caller, port: int, ca: Path) -> Callable[[], WearableClient]:
    """Sessions of a device that nobody wears yet: its dangers ring under its own name."""
    ca.write_text(nurse.get("/wearables/authority.pem").body)
    made = nurse.post("/wearables", {"name": "Band 7"}).body
    return partial(WearableClient, Place(port, ca), made["id"], made["password"])


def of_news2(nurse: Caller) -> list[Any]:
    return [one for one in nurse.get("/alarms").body["alarms"] if one["condition"] == "news2"]


def a_danger_rings(nurse: Caller, band: WearableClient) -> None:
    """The reading is not stored, and has no receipt; its alarm is there all the same."""
    band.publish(message("danger", DANGER_MS, DANGER_MS, spo2=80))
    wait_until("an alarm of what was not stored", lambda: bool(of_news2(nurse)))
    wait_until("a word without a name", lambda: "" in band.receipts)
    assert "danger" not in band.receipts
    assert of_news2(nurse)[0]["causes"] == ["spo2"]


def test_each_share_that_is_full_refuses_says_so_rings_and_empties_itself() -> None:
    """Images and journal by quotas, far from the disk's end; space comes back by what the hub has
    called safe, and by nothing else."""
    with lab() as made:
        hub = made.hub()
        port, devices = free_ports(2)
        box = made.box(
            disk_reserve_mb=4,
            journal_quota_mb=6,
            images_quota_mb=128,
            log_quota_mb=1,
            dicom_port=port,
            device_port=devices,
            log_level="debug",
        )
        with small_disk(box.state, 200):
            ledger = pair_on(hub, box)
            people = clinic_people(box)
            nurse, patient = people.of(Role.NURSE).caller, registered(people)
            box.ask("modalities", "--admit", "CT1@127.0.0.1")
            band = wearable(nurse, devices, box.state.parent / "trusted.pem")
            hub.stop()

            taken, code = fill(box, "study.full")
            assert code == "journal-full"
            sent, status = images(port, 0)
            assert (status, sent > 15) == (0xA700, True), (
                "as many as fit, whatever the journal says"
            )

            def ringing() -> list[str]:
                found = nurse.get("/alarms").body["alarms"]
                found = [one for one in found if one["condition"] == "storage"]
                return [cause for one in found for cause in one["causes"]]

            wait_until("an alarm", lambda: {"journal-full", "images-full"} <= set(ringing()))
            assert nurse.get(f"/patients/{patient}").status == 200, "a look and its audit row"
            assert nurse.post(f"/patients/{patient}/vitals", {"pulse": 80.0}).status == 507
            with band() as device:
                a_danger_rings(nurse, device)
            full = {share["name"]: share["full"] for share in box.status()["storage"]["shares"]}
            assert full == {"journal": True, "images": True, "log": False}
            (alarm,) = (
                one
                for one in nurse.get("/alarms").body["alarms"]
                if not one["ended_ms"] and one["condition"] == "storage"
            )
            assert nurse.post(f"/alarms/{alarm['id']}/acknowledge").status == 200

            hub.start().wait()
            settled(box, ledger, len(taken), "study.full")
            ledger.check(taken, "study.full")
            wait_until("room for images", lambda: images(port, 100)[0] > 0)
            assert nurse.post(f"/patients/{patient}/vitals", {"pulse": 80.0}).status == 200
            wait_until("nothing is full", lambda: not box.status()["storage"]["causes"])
            with band() as device:
                assert device.send("danger", DANGER_MS, spo2=80)["stored"]
            assert len(of_news2(nurse)) == 1
            logs = sum(each.stat().st_size for each in (box.state / "log").iterdir())
            assert 0 < logs < 1 << 20
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
