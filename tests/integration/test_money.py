"""Money and audit on real programs, by what an owner can type and a person can click."""

import json
import subprocess
from typing import Any

import pytest
from beancount import loader

import expert as browser
from lab import Program, ask, peek, wait_until
from lianzhen_protocol.accounts import Role
from lianzhen_protocol.settlement import SettlementPending
from support.bills import card, new_id, put, put_ten_times, two_claims
from support.browser import Site
from support.consoles import Person, enter
from support.money import REGION
from support.patients import an_id_number

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


# -- from the card to the pay, by what people click


def expert_with_a_key(site: Site) -> Person:
    """An expert of cardiology with a certificate, whom nobody else of these tests knows."""
    made = site.centre.make("pay.expert", Role.EXPERT)
    found = enter(site.centre.port, made, second=True)
    admin = site.centre.of(Role.ADMIN).caller
    profile = {"title": "chief", "departments": ["03.07"]}
    assert admin.post(f"/experts/{found.id}", profile).status == 200
    challenge = found.caller.post("/signing/challenge").body
    body = browser.request_body(challenge["challenge"], challenge["account"])
    request = found.caller.post("/signing/request", body).body["id"]
    seen = {"identity_seen": True, "licence_seen": True}
    assert admin.post(f"/signers/requests/{request}/approve", seen).status == 200
    return found


def signed_opinion(site: Site, expert: Person, case: str) -> str:
    """The expert takes the case, writes and signs; the opinion is at the clinic when it returns."""
    caller, nurse = expert.caller, site.clinic.of(Role.NURSE).caller

    def taken() -> bool:
        caller.get("/inbox")  # who looks is online
        return caller.post(f"/cases/{case}/accept").status == 200

    wait_until("a case that the expert took", taken)
    assert caller.post(f"/cases/{case}/start").status == 200
    draft = {"findings": "窦性心律", "conclusion": "稳定型心绞痛", "version": 0}
    assert caller.post(f"/cases/{case}/opinion", draft).status == 200
    to_sign = caller.get(f"/cases/{case}/opinion/sign").body["to_sign"]
    reply = caller.post(f"/cases/{case}/opinion/sign", browser.signed_body(to_sign))
    assert reply.status == 200, reply
    opinion = str(reply.body["id"])

    def shown() -> bool:
        found = nurse.get(f"/consultations/{case}").body["case"]
        return bool(found["state"] == "signed" and found["opinion"]["id"] == opinion)

    wait_until("the signature at the clinic", shown)
    return opinion


def test_a_completed_consultation_is_settled_posted_and_paid(site: Site) -> None:
    doctor, expert = site.clinic.of(Role.DOCTOR).caller, expert_with_a_key(site)
    details = {"name": "钱七", "id_number": an_id_number(907)}
    patient = doctor.post("/patients", details).body["id"]
    card_says = {"insurance": "employee", "account_yuan": "50.50"}
    assert doctor.post(f"/patients/{patient}/coverage", card_says).status == 200
    ask = {"complaint": "胸痛", "department": "03.07", "ask": True, "consent": True,
           "consent_given_by": "钱七"}  # fmt: skip
    case = doctor.post(f"/patients/{patient}/consultations", ask).body["id"]
    opinion = signed_opinion(site, expert, case)
    before = ledger(site)
    done = doctor.post(f"/consultations/{case}/complete", {"opinion": opinion})
    assert done.status == 200, done
    ids = {doctor.post(f"/consultations/{case}/settlement").body["id"] for _ in range(10)}
    (claim,) = ids

    def bill() -> Any:
        return doctor.get(f"/settlements/{claim}").body["bill"]

    wait_until("the hub's answer at the clinic", lambda: bill()["settlement"]["state"] == "posted")
    lines = {line["word"]: line["fen"] for line in bill()["lines"]}
    # half an hour of a city expert: 80 % is 238.00, and the cap 150; the account; the rest in cash
    assert lines == {"total": 29_750, "in_scope": 29_750, "deductible": 0,
                     "fund": 15_000, "account": 5_050, "cash": 9_700}  # fmt: skip
    admin = site.centre.of(Role.ADMIN).caller
    assert admin.get(f"/settlements/{claim}").body["bill"]["settlement"]["state"] == "posted"
    (statement,) = expert.caller.get("/my/pay").body["statements"]
    assert (statement["consultations"], statement["fen"] > 0) == (1, True)
    after = ledger(site)
    assert (after["sound"], after["sum_fen"]) == (True, 0)
    assert after["transfers"] == before["transfers"] + 7  # three pending, three posts, one pay
    payable = {row["id"]: row["fen"] for row in after["accounts"]}[f"pay-payable:{expert.id}"]
    assert payable == -statement["fen"]
