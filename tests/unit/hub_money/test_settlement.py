"""Claims at the hub, on both databases: posted once, split again, a difference seen, taken back."""

import msgspec
import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from lianzhen_hub.ingest.downlink import Outbox
from lianzhen_hub.ingest.vault import Vault
from lianzhen_hub.settlement import desk, ledger, views
from lianzhen_hub.settlement.pay import Earning, pay_expert
from lianzhen_hub.store import tables
from lianzhen_hub.store.database import Database
from lianzhen_protocol import kinds, postings
from lianzhen_protocol.audit import HUB_LOG
from lianzhen_protocol.consultation import (
    Accepted,
    Completed,
    Consultation,
    Event,
    Opinion,
    Person,
    Signed,
    State,
    Who,
)
from lianzhen_protocol.errors import LedgerError
from lianzhen_protocol.identity import NodeId, uuid7
from lianzhen_protocol.ledger import Journal, Step, about
from lianzhen_protocol.records import RecordRejected
from lianzhen_protocol.settlement import (
    CoverageStated,
    Difference,
    Reason,
    Settlement,
    SettlementDifference,
    SettlementPending,
    SettlementPosted,
    SettlementReversed,
    Standing,
    split,
)
from support.money import REGION, RULES, SERVICE_MS, claim, hex_id
from unit.hub_ingest.box import NODE, NOW_MS
from unit.hub_money.books import Books

OTHER = NodeId("n2222222222bb")
FUND = f"fund:{REGION}"
PATIENT = claim().patient_id


@pytest.fixture
async def books(database: Database, vault: Vault, outbox: Outbox) -> Books:
    made = Books(database, vault, outbox)
    await made.open()
    await made.say(coverage())
    return made


def coverage(insurance: str = "resident", account_fen: int = 0) -> CoverageStated:
    return CoverageStated(
        patient_id=PATIENT, region=REGION, insurance=insurance, account_fen=account_fen,
        active=True, stated_by="nurse", stated_ms=SERVICE_MS - 1,
    )  # fmt: skip


# -- once


async def test_a_claim_is_posted_and_the_box_is_told(books: Books) -> None:
    await books.say(claim())
    # 297.50 yuan: 70 % is 208.25, and the cap 200
    assert await books.fen() == {
        FUND: 20_000, f"cash:{NODE}": 9_750, f"revenue:{NODE}": -29_750,
    }  # fmt: skip
    (told,) = await books.told()
    assert isinstance(told, SettlementPosted)
    assert (told.claim_id, told.split, told.policy_version) == (claim().claim_id, claim().split, 1)
    assert (await books.sound()).transfers == 4  # two pending, two posts


async def test_the_same_record_ten_times_posts_once(books: Books) -> None:
    entry = kinds.encode(claim(), uuid7(NOW_MS, bytes(10)), NOW_MS)
    before = await books.fen()
    assert before == {}
    for _ in range(10):
        await books.carry([entry])
    assert (await books.sound()).transfers == 4
    assert len(await books.told()) == 1


async def test_the_same_claim_in_ten_records_posts_once_and_is_answered_each_time(
    books: Books,
) -> None:
    """A box that lost its journal's last page settles again with the claim that it kept."""
    await books.say(*[claim()] * 5)
    for _ in range(5):
        await books.say(claim())
    assert (await books.sound()).transfers == 4
    assert (await books.fen())[FUND] == 20_000
    told = await books.told()
    assert len(told) == 10
    assert len({msgspec.json.encode(each) for each in told}) == 1


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        (claim(minutes=31), "settlement-id-reused"),
        (msgspec.structs.replace(claim(2), consultation_id=claim().consultation_id),
         "settlement-twice"),
        (msgspec.structs.replace(
            claim(3), split=msgspec.structs.replace(claim().split, cash_fen=1)),
         "settlement-malformed"),
        (claim(4, level="moon"), "settlement-no-tariff"),
        (claim(5, region="999999"), "settlement-no-tariff"),
    ],
)  # fmt: skip
async def test_what_cannot_be_posted_is_held_and_its_box_told_why(
    books: Books, wrong: SettlementPending, code: str
) -> None:
    await books.say(claim())
    before = await books.fen()
    step = await books.say(wrong)
    assert step.quarantined == 1
    (told,) = await books.told(stream="record.receipts")
    assert isinstance(told, RecordRejected)
    assert told.code == code
    assert await books.fen() == before


async def test_a_claim_of_another_boxs_id_is_refused(books: Books) -> None:
    await books.say(claim())
    assert (await books.say(claim(), node=OTHER)).quarantined == 1


# -- a difference


async def test_two_clinics_without_a_line_use_up_one_yearly_cap(
    database: Database, vault: Vault, outbox: Outbox
) -> None:
    """Each was right by what it knew; the second one's difference is an entry of its own."""
    capped = msgspec.structs.replace(RULES.policy[0], yearly_cap_fen=25_000)
    rules = msgspec.structs.replace(RULES, policy=(capped, *RULES.policy[1:]))
    books = Books(database, vault, outbox)
    await books.open(rules)
    await books.say(coverage())
    await books.say(claim(1))
    await books.say(claim(2), node=OTHER)
    assert await books.fen() == {
        FUND: 25_000,
        f"cash:{NODE}": 9_750,
        f"revenue:{NODE}": -29_750,
        f"cash:{OTHER}": 9_750,  # what the patient paid there stays as it was
        f"due:{OTHER}": 15_000,  # what the fund does not pay, the patient still owes
        f"revenue:{OTHER}": -29_750,
    }
    assert (await books.sound()).transfers == 9
    posted, difference = await books.told(OTHER)
    assert isinstance(posted, SettlementPosted)
    assert isinstance(difference, SettlementDifference)
    assert (difference.reason, difference.box.fund_fen, difference.hub.fund_fen) == (
        Reason.YEARLY, 20_000, 5_000,
    )  # fmt: skip
    shown = await books.do(lambda page: views.differences(page))
    assert [(each.node, each.said.claim_id) for each in shown] == [(OTHER, claim(2).claim_id)]
    notices = await books.do(lambda page: list(page.connection.execute(tables.notice.select())))
    assert [(row.code, row.node) for row in notices] == [("settlement-differs", OTHER)]


async def test_a_box_with_an_older_policy_is_corrected(books: Books) -> None:
    newer = msgspec.structs.replace(RULES.policy[0], version=2, visit_cap_fen=10_000)
    await books.open(msgspec.structs.replace(RULES, policy=(*RULES.policy, newer)))
    await books.say(claim())
    _, difference = await books.told()
    assert isinstance(difference, SettlementDifference)
    assert difference.reason == Reason.POLICY
    assert (await books.fen())[f"due:{NODE}"] == 10_000
    kept = await books.do(lambda page: page.get(Settlement, claim().claim_id))
    assert kept is not None
    assert (kept.state, kept.split.fund_fen, kept.claim.split.fund_fen) == (
        "difference", 10_000, 20_000,
    )  # fmt: skip


async def test_an_account_is_drawn_once(books: Books) -> None:
    """Two claims against one balance: the second draws what the first left."""
    await books.say(coverage(account_fen=12_000))
    total, policy = 29_750, RULES.policy[0]
    paid = split(total, total, policy, Standing(account_fen=12_000))
    first = claim(1, split=paid, account_fen=12_000)
    second = claim(2, split=paid, account_fen=12_000)
    await books.say(first, second)
    found = await books.fen()
    assert found[f"account:{REGION}"] == 12_000
    assert found[f"due:{NODE}"] == 7_500
    differences = await books.do(lambda page: page.find(Difference))
    assert [each.said.reason for each in differences] == [Reason.ACCOUNT]


# -- taken back


async def test_a_claim_is_reversed_once_however_often_it_is_asked(books: Books) -> None:
    await books.say(claim())
    for _ in range(10):
        await books.do(lambda page: desk.reverse(page, claim().claim_id, "wrong patient", "admin"))
    assert await books.fen() == {}
    assert (await books.sound()).transfers == 6
    trail = await books.do(lambda page: page.audit_trail(HUB_LOG))
    noted = [(row.entry.actor, row.entry.action) for row in trail if row.entry]
    assert noted == [(NODE, "settle"), ("admin", "reverse")]
    *_, told = await books.told()
    assert isinstance(told, SettlementReversed)
    assert len(await books.told()) == 2
    again = msgspec.structs.replace(claim(2), consultation_id=claim().consultation_id)
    await books.say(again)  # a correction is a new claim
    assert (await books.fen())[FUND] == 20_000


async def test_a_claim_that_is_not_there_cannot_be_reversed(books: Books) -> None:
    with pytest.raises(desk.NoSuchClaim):
        await books.do(lambda page: desk.reverse(page, hex_id(77), "x", "admin"))


# -- pay

EXPERT = Person(id=hex_id(500), name="Dr Chen", who=Who.EXPERT)
DOCTOR = Person(id=hex_id(501), name="Dr Li", who=Who.DOCTOR)
OPINION = Opinion(id=hex_id(502), digest="0" * 64)


def consultation(minutes: int = 25, acuity: int = 3) -> Consultation:
    """Completed; the expert worked so many minutes on it."""
    begun, case = SERVICE_MS, claim().consultation_id

    def event(number: int, by: Person, at_ms: int, what: object) -> Event:
        return Event(id=hex_id(number), consultation=case, by=by, at_ms=at_ms, what=what)  # type: ignore[arg-type]

    end = begun + minutes * 60_000
    return Consultation(
        id=case, node=NODE, patient_id=PATIENT, acuity=acuity, state=State.COMPLETED,
        drafted_by=DOCTOR, expert=EXPERT, drafted_ms=begun - 1, accepted_ms=begun,
        completed_ms=end + 5_000_000,
        events=(
            event(1, EXPERT, begun, Accepted()),
            event(2, EXPERT, end, Signed(opinion=OPINION)),
            event(3, DOCTOR, end + 5_000_000, Completed(opinion=OPINION.id)),
        ),
    )  # fmt: skip


async def test_an_expert_is_paid_once_and_the_statement_is_the_ledgers_balance(
    books: Books,
) -> None:
    for _ in range(10):
        await books.do(lambda page: pay_expert(page, consultation()))
    payable = f"pay-payable:{EXPERT.id}"
    assert await books.fen() == {"pay-expense": 15_000, payable: -15_000}
    (statement,) = await books.do(lambda page: views.statements(page))
    assert (statement.consultations, statement.fen, statement.expert_name) == (1, 15_000, "Dr Chen")
    earned = await books.do(lambda page: page.get(Earning, consultation().id))
    assert earned is not None
    assert (earned.pay.minutes, earned.pay.rule_id) == (25, "gz-expert-pay")


async def test_a_reversal_claws_the_pay_back(books: Books) -> None:
    await books.say(claim())
    await books.do(lambda page: pay_expert(page, consultation(acuity=1)))
    assert (await books.fen())["pay-expense"] == 19_500  # 30 % more, as it was urgent
    await books.do(lambda page: desk.reverse(page, claim().claim_id, "twice", "admin"))
    assert await books.fen() == {}
    (statement,) = await books.do(lambda page: views.statements(page, EXPERT.id))
    assert (statement.earned_fen, statement.clawed_back_fen, statement.fen) == (19_500, 19_500, 0)
    journal = await books.do(
        lambda page: ledger.of_claim(page.connection, claim().consultation_id, Journal.PAY)
    )
    assert [each.step for each in journal] == [Step.DIRECT, Step.REVERSE]


# -- the tables

COLUMNS = "id, journal, step, debit, credit, amount_fen, claim, memo, at_ms"


async def test_the_tables_refuse_what_the_ledger_would(books: Books) -> None:
    """Whoever writes past the code meets the constraints."""
    await books.say(claim())
    for statement in (
        "UPDATE transfer SET amount_fen = 0",
        "UPDATE transfer SET credit = debit",
        "UPDATE account SET debit_fen = -1",
        f"INSERT INTO transfer ({COLUMNS}) SELECT {COLUMNS} FROM transfer",
    ):
        with pytest.raises(IntegrityError):
            await books.database.write(lambda db, said=statement: db.execute(text(said)))  # type: ignore[misc]


async def test_a_pending_one_is_posted_or_voided_never_both(books: Books) -> None:
    held, *_ = postings.pending_of(claim(), NODE, NOW_MS)
    await books.do(lambda page: ledger.enter(page.connection, [held, about(held, Step.VOID, 0)]))
    with pytest.raises(LedgerError, match="had its void already"):
        await books.do(lambda page: ledger.enter(page.connection, [about(held, Step.POST, 0)]))
    assert await books.fen() == {}
    await books.sound()


async def test_an_account_that_somebody_changed_is_named(books: Books) -> None:
    await books.say(claim())
    harm = text(f"UPDATE account SET debit_fen = debit_fen + 1 WHERE id = '{FUND}'")
    await books.database.write(lambda db: db.execute(harm))
    found = await books.database.read(ledger.check)
    assert (found.sound, found.sum_fen, found.wrong) == (False, 1, (FUND,))
