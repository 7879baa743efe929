"""Money at the clinic: a completed consultation settles itself once, and the hub's word counts."""

import asyncio
import secrets
from pathlib import Path

import msgspec
import pytest

from lianzhen_edge.consultations.completion import AFTER_COMPLETION
from lianzhen_edge.journal.book import Book, Origin, apply
from lianzhen_edge.journal.journal import Journal
from lianzhen_edge.meanings import MEANINGS
from lianzhen_edge.settings import Settings
from lianzhen_edge.settlement import desk, rules
from lianzhen_edge.settlement.desk import NewCoverage, NotSettled
from lianzhen_protocol import kinds, records
from lianzhen_protocol.identity import uuid7
from lianzhen_protocol.records import Body
from lianzhen_protocol.settlement import (
    Difference,
    Settlement,
    SettlementDifference,
    SettlementPending,
    SettlementPosted,
    SettlementReversed,
    claim_of,
)
from lianzhen_protocol.settling import bill, rule_book, unsettled
from lianzhen_runtime.errors import ConfigError
from support.money import SERVICE_MS, hex_id
from unit.money.conftest import CASE, NODE, PATIENT, case


def completed(book: Book) -> None:
    """What the doctor's "read" sets off."""
    for follow in AFTER_COMPLETION:
        follow(book, case())


async def insured(journal: Journal, insurance: str = "resident", yuan: str = "0") -> None:
    said = NewCoverage(insurance=insurance, account_yuan=yuan)
    await journal.transact(lambda book: desk.state_coverage(book, PATIENT, said, "nurse"))


def written(journal: Journal) -> list[SettlementPending]:
    found = journal.read("record.settlement", 1, 100, 1 << 20).records
    bodies = [kinds.open_body(records.decode(entry)) for entry in found]
    return [body for body in bodies if isinstance(body, SettlementPending)]


async def from_hub(journal: Journal, body: Body) -> None:
    """A record that came down, applied as the inbox does it."""

    def work(book: Book) -> None:
        book.origin = Origin.HUB
        identity = uuid7(SERVICE_MS, secrets.token_bytes(10))
        apply(book, MEANINGS, records.decode(kinds.encode(body, identity, SERVICE_MS)), body)

    await journal.transact(work)


def shown(journal: Journal) -> Settlement:
    found = claim_of(journal.sheets, CASE)
    assert found is not None
    return found


async def test_a_completed_consultation_settles_itself_once(journal: Journal) -> None:
    await insured(journal)
    for _ in range(10):
        await journal.transact(completed)
    (claim,) = written(journal)
    assert (claim.minutes, claim.policy_id, claim.settled_by) == (25, "gz-resident-simple", "box")
    assert (shown(journal).state, shown(journal).split.fund_fen) == ("pending", 20_000)
    assert unsettled(journal.sheets, PATIENT) == []
    actions = [row.entry.action for row in journal.sheets.audit_trail(NODE) if row.entry]
    assert actions == ["change", "settle"]


async def test_ten_at_a_time_settle_once(journal: Journal) -> None:
    await insured(journal, "employee", "50.5")
    done = await asyncio.gather(
        *(
            journal.transact(lambda book: desk.settle_consultation(book, CASE, "doctor"))
            for _ in range(10)
        )
    )
    assert len({each.id for each in done}) == 1
    (claim,) = written(journal)
    # 297.50: 80 % is 238, the cap 150; 50.50 from the account, the rest in cash
    assert (claim.split.fund_fen, claim.split.account_fen, claim.split.cash_fen) == (
        15_000, 5_050, 9_700,
    )  # fmt: skip
    lines = {line.word: line.fen for line in bill(shown(journal))}
    assert lines["total"] == lines["fund"] + lines["account"] + lines["cash"] == 29_750


async def test_without_insurance_the_patient_pays(journal: Journal) -> None:
    await journal.transact(completed)
    (claim,) = written(journal)
    assert (claim.policy_id, claim.split.fund_fen, claim.split.cash_fen) == ("", 0, 29_750)


async def test_where_no_rule_holds_care_does_not_wait_for_money(journal: Journal) -> None:
    await rules.keep(journal, Settings(expert_level="moon"))
    await journal.transact(completed)
    assert written(journal) == []
    assert [each.id for each in unsettled(journal.sheets, PATIENT)] == [CASE]
    await rules.keep(journal, Settings())
    await journal.transact(lambda book: desk.settle_consultation(book, CASE, "doctor"))
    assert unsettled(journal.sheets, PATIENT) == []


async def test_what_is_not_completed_is_not_settled(journal: Journal) -> None:
    with pytest.raises(NotSettled):
        await journal.transact(lambda book: desk.settle_consultation(book, hex_id(9), "doctor"))
    with pytest.raises(NotSettled, match="no such patient"):
        await journal.transact(
            lambda book: desk.state_coverage(book, hex_id(9), NewCoverage(insurance="x"), "nurse")
        )
    assert written(journal) == []


async def test_the_hubs_answer_counts(journal: Journal) -> None:
    await insured(journal)
    await journal.transact(completed)
    claim = shown(journal).claim
    hub = msgspec.structs.replace(claim.split, fund_fen=5_000, cash_fen=24_750)
    posted = SettlementPosted(
        claim_id=claim.claim_id, split=hub, policy_id="p", policy_version=2, posted_ms=5
    )
    await from_hub(journal, posted)
    assert (shown(journal).state, shown(journal).split) == ("posted", hub)
    said = SettlementDifference(
        difference_id=hex_id(7), claim_id=claim.claim_id, patient_id=PATIENT, reason="yearly",
        box=claim.split, hub=hub, found_ms=6,
    )  # fmt: skip
    for _ in range(2):  # the hub answers a retry again
        await from_hub(journal, posted)
        await from_hub(journal, said)
    assert shown(journal).state == "difference"
    assert [each.said for each in journal.sheets.find(Difference, owner=PATIENT)] == [said]
    back = SettlementReversed(
        claim_id=claim.claim_id, reason="twice", reversed_by="admin", reversed_ms=7
    )
    await from_hub(journal, back)
    assert claim_of(journal.sheets, CASE) is None
    kept = journal.sheets.get(Settlement, claim.claim_id)
    assert kept is not None
    assert kept.reversal == back
    await journal.transact(completed)  # a correction is a new claim
    assert len(written(journal)) == 2


async def test_what_was_drawn_since_the_card_was_read_is_taken_off(journal: Journal) -> None:
    await insured(journal, "employee", "60")
    await journal.transact(completed)
    other = msgspec.structs.replace(case(), id=hex_id(20))
    await journal.transact(lambda book: book.put(other))
    await journal.transact(lambda book: desk.settle_consultation(book, other.id, "doctor"))
    assert [each.split.account_fen for each in written(journal)] == [6_000, 0]


@pytest.mark.parametrize(("text", "fen"), [("0", 0), ("12", 1200), ("12.3", 1230), ("0.05", 5)])
def test_yuan_as_typed(text: str, fen: int) -> None:
    assert desk.fen_of(text) == fen


async def test_rules_of_the_owners_folder_come_on_top(journal: Journal, tmp_path: Path) -> None:
    folder = tmp_path / "policies"
    folder.mkdir()
    policy = folder / "ours.toml"
    policy.write_text(
        '[[policy]]\nid = "ours"\nversion = 2\nregion = "520300"\ninsurance = "resident"\n'
        'valid_from = 2026-01-01\nratio_bp = 5000\nvisit_cap_fen = 100\nsource = "us"\n'
    )
    await rules.keep(journal, Settings(policies=str(folder)))
    found = rule_book(journal.sheets)
    assert found is not None
    policy_now = found.rules.policy_for("520300", "resident", SERVICE_MS)
    assert policy_now is not None
    assert policy_now.id == "ours"
    policy.write_text("[[policy]]\n")
    with pytest.raises(ConfigError, match=r"ours\.toml"):
        await rules.keep(journal, Settings(policies=str(folder)))
