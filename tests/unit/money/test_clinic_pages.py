"""Pages of money and audit at the clinic, over HTTP: what is shown, what is done, what is noted."""

import pytest

from lianzhen_edge.clinic import audit, money
from lianzhen_edge.journal.journal import Journal
from lianzhen_protocol import kinds, records
from lianzhen_protocol.accounts import Role
from lianzhen_protocol.settlement import Settlement, SettlementPending
from support.clinic_console import Clinic
from support.money import SERVICE_MS, hex_id
from unit.money.conftest import CASE, NODE, PATIENT


def noted(journal: Journal) -> list[tuple[str, str, str]]:
    """(who, what, whose) of every audit row."""
    rows = journal.sheets.audit_trail(NODE)
    return [(row.entry.actor, row.entry.action, row.entry.patient) for row in rows if row.entry]


async def test_a_bill_from_the_card_to_the_print(journal: Journal) -> None:
    clinic = Clinic(journal, SERVICE_MS)
    async with clinic.serving(money.routes(clinic), audit.routes(clinic)) as visitors:  # type: ignore[arg-type]
        nurse = await visitors.sign_in("li", Role.NURSE)
        address = f"/patients/{PATIENT}/settlement"
        status, found = await visitors.ask(nurse, "GET", address)
        assert (status, found["coverage"], len(found["unsettled"])) == (200, None, 1)
        card = {"insurance": "employee", "account_yuan": "50.50"}
        status, _ = await visitors.ask(nurse, "POST", f"/patients/{PATIENT}/coverage", card)
        assert status == 200
        done = {
            (await visitors.ask(nurse, "POST", f"/consultations/{CASE}/settlement"))[1]["id"]
            for _ in range(10)
        }
        assert len(done) == 1
        assert len(journal.sheets.find(Settlement)) == 1
        (claim,) = done
        _, found = await visitors.ask(nurse, "GET", f"/settlements/{claim}")
        lines = {line["word"]: line["fen"] for line in found["bill"]["lines"]}
        assert lines == {
            "total": 29_750, "in_scope": 29_750, "deductible": 0,
            "fund": 15_000, "account": 5_050, "cash": 9_700,
        }  # fmt: skip
        assert found["bill"]["item"]["state"] == "stored"
        for path in (address, f"{address}/fragment", f"/settlements/{claim}"):
            assert "297.50" in await visitors.page(nurse, path)
            assert "97.00" in await visitors.page(nurse, path, "en")
        seen = await visitors.page(nurse, f"/patients/{PATIENT}/access")
        assert "测试li" in seen
        assert "结算" in seen


async def test_a_claim_that_the_hub_rejected_is_said_again_with_its_id(journal: Journal) -> None:
    clinic = Clinic(journal, SERVICE_MS)
    async with clinic.serving(money.routes(clinic)) as visitors:  # type: ignore[arg-type]
        nurse = await visitors.sign_in("li", Role.NURSE)
        path = f"/consultations/{CASE}/settlement"
        _, made = await visitors.ask(nurse, "POST", path)
        journal._connection.execute("UPDATE item SET rejected = 'no price'")
        assert "再次送交中心" in await visitors.page(nurse, f"/settlements/{made['id']}")
        _, again = await visitors.ask(nurse, "POST", path)
        assert again["id"] == made["id"]
    found = journal.read("record.settlement", 1, 100, 1 << 20).records
    bodies = [kinds.open_body(records.decode(entry)) for entry in found]
    claims = [body for body in bodies if isinstance(body, SettlementPending)]
    assert len(claims) == 2
    assert claims[0] == claims[1]
    assert len({records.decode(entry).id for entry in found}) == 2


async def test_every_look_and_every_change_is_noted(journal: Journal) -> None:
    clinic = Clinic(journal, SERVICE_MS)
    async with clinic.serving(money.routes(clinic), audit.routes(clinic)) as visitors:  # type: ignore[arg-type]
        doctor = await visitors.sign_in("wang", Role.DOCTOR)
        who = "account-wang"
        _, made = await visitors.ask(doctor, "POST", f"/consultations/{CASE}/settlement")
        assert noted(journal)[-1] == (who, "settle", PATIENT)
        for method, path, value, action in (
            ("GET", f"/patients/{PATIENT}/settlement", None, "read"),
            ("GET", f"/patients/{PATIENT}/settlement/fragment", None, "read"),
            ("GET", f"/settlements/{made['id']}", None, "read"),
            ("GET", f"/patients/{PATIENT}/access", None, "read"),
            ("POST", f"/patients/{PATIENT}/coverage", {"insurance": "resident"}, "change"),
        ):
            before = len(noted(journal))
            clinic.now_ms += 61_000  # sooner, it is the same look
            status, _ = await visitors.ask(doctor, method, path, value)
            assert status == 200
            assert noted(journal)[before:] == [(who, action, PATIENT)], path


async def test_the_log_page_says_whole_and_names_a_broken_row(journal: Journal) -> None:
    clinic = Clinic(journal, SERVICE_MS)
    async with clinic.serving(audit.routes(clinic)) as visitors:  # type: ignore[arg-type]
        admin = await visitors.sign_in("chen", Role.ADMIN)
        for _ in range(3):
            status, found = await visitors.ask(admin, "GET", "/audit")
        assert (status, found["logs"][0]["broken"], found["logs"][0]["rows"]) == (200, "", 2)
        assert "完整" in await visitors.page(admin, "/audit")
        journal._connection.execute("DELETE FROM audit WHERE seq = 2")
        _, found = await visitors.ask(admin, "GET", "/audit")
        assert "row 2 of log" in found["logs"][0]["broken"]
        assert "row 2 of log" in await visitors.page(admin, "/audit", "en")


@pytest.mark.parametrize(
    ("method", "path", "value", "status"),
    [
        ("GET", f"/patients/{hex_id(99)}/settlement", None, 404),
        ("GET", f"/settlements/{hex_id(99)}", None, 404),
        ("POST", f"/consultations/{hex_id(99)}/settlement", None, 409),
        ("POST", f"/patients/{hex_id(99)}/coverage", {"insurance": "resident"}, 409),
        ("POST", f"/patients/{PATIENT}/coverage", {"insurance": "resident", "account_yuan": "1,5"},
         422),
        ("POST", f"/patients/{PATIENT}/coverage", {"insurance": "a/b"}, 422),
    ],
)  # fmt: skip
async def test_what_cannot_be_is_a_problem_and_changes_nothing(
    journal: Journal, method: str, path: str, value: object, status: int
) -> None:
    clinic = Clinic(journal, SERVICE_MS)
    async with clinic.serving(money.routes(clinic)) as visitors:  # type: ignore[arg-type]
        nurse = await visitors.sign_in("li", Role.NURSE)
        found, problem = await visitors.ask(nurse, method, path, value)
        assert (found, problem["status"]) == (status, status)
        assert noted(journal) == []
