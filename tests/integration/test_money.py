"""Money and audit on real programs, by what an owner can type and a person can click."""

import json
import subprocess
from typing import Any

import pytest
from beancount import loader

from lab import Program, ask, peek, wait_until
from lianzhen_protocol.accounts import Role
from lianzhen_protocol.settlement import SettlementPending
from support.bills import card, new_id, put, put_ten_times, two_claims
from support.browser import Site
from support.money import REGION

PATIENT = "cd" * 16


def typed(program: Program, *verb: str) -> tuple[int, str]:
    """A verb's exit status and what it prints."""
    done = subprocess.run(program.command(*verb), capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def ledger(site: Site) -> dict[str, Any]:
    found: dict[str, Any] = peek(site.hub.state / "admin.sock", "/ledger")
    return found


def fund(site: Site) -> int:
    found = {row["id"]: row["fen"] for row in ledger(site)["accounts"]}
    return int(found.get(f"fund:{REGION}", 0))


@pytest.fixture(scope="module")
def claims(site: Site) -> list[SettlementPending]:
    """Two claims, put ten times, and posted."""
    before = ledger(site)["transfers"]
    put(site.box, card(PATIENT), new_id())
    made = two_claims(PATIENT)
    put_ten_times(site.box, made)
    wait_until("both are posted", lambda: ledger(site)["transfers"] >= before + 8)
    assert ledger(site)["transfers"] == before + 9  # two and two, twice, and the difference
    return made


def test_the_ledger_by_its_verb_and_by_another_program(
    site: Site, claims: list[SettlementPending]
) -> None:
    found = ledger(site)
    assert (found["sound"], found["sum_fen"], found["wrong"]) == (True, 0, [])
    status, printed = typed(site.hub, "ledger")
    assert status == 0
    assert f"fund:{REGION}" in printed
    assert "sum 0.00" in printed
    status, text = typed(site.hub, "ledger", "export")
    assert status == 0
    _, errors, _ = loader.load_string(text)
    assert errors == []
    assert claims[0].claim_id in text


def test_ten_reversals_take_a_claim_back_once(site: Site, claims: list[SettlementPending]) -> None:
    before, count = fund(site), ledger(site)["transfers"]
    verb = ("ledger", "reverse", claims[0].claim_id, "--reason", "twice", "--by", "Chen")
    assert typed(site.hub, *verb) == (0, f"{claims[0].claim_id} is reversed\n")
    for _ in range(9):  # what the verb asks
        said = json.dumps({"reason": "twice", "by": "Chen"}).encode()
        path = f"/ledger/{claims[0].claim_id}/reverse"
        assert ask(site.hub.state / "admin.sock", "POST", path, said).status == 200
    assert fund(site) == before - 20_000
    assert ledger(site)["transfers"] == count + 2


def test_a_boxs_rows_come_up_and_every_log_is_whole(site: Site) -> None:
    nurse = site.clinic.of(Role.NURSE).caller
    assert nurse.get("/consultations").status == 200  # a look

    admin = site.centre.of(Role.ADMIN).caller

    def told() -> bool:
        rows = admin.get(f"/audit?log={site.node}").body["rows"]
        return any(row["subject"] == "page/consultations" for row in rows)

    wait_until("the box's rows are at the hub", told)
    status, printed = typed(site.hub, "audit", "verify")
    assert status == 0, printed
    assert "whole   log hub: " in printed
    assert f"whole   log {site.node}: " in printed
    status, printed = typed(site.box, "audit", "verify")
    assert status == 0, printed


def test_the_hubs_head_is_in_its_file_and_at_the_box(site: Site) -> None:
    admin = site.centre.of(Role.ADMIN).caller
    assert admin.get("/audit").status == 200
    file = site.hub.state / "audit-heads"
    wait_until("the head is told", file.exists)
    said = json.loads(file.read_text().splitlines()[-1])
    assert (said["log"], len(said["hash"])) == ("hub", 44)  # base 64
    (hub,) = [log for log in admin.get("/audit").body["logs"] if log["log"] == "hub"]
    assert (hub["broken"], hub["heads"] >= 2) == ("", True)
