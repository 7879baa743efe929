"""A consultation through all its hands: each act is in the hub's log, and the work is paid once."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from lianzhen_hub.settlement import ledger
from lianzhen_hub.settlement.pay import Earning
from lianzhen_hub.signing import opinions
from lianzhen_hub.signing.opinions import Draft
from lianzhen_protocol.accounts import Actor, Role
from lianzhen_protocol.audit import HUB_LOG
from lianzhen_protocol.consultation import (
    Accepted,
    Completed,
    Declined,
    Opinion,
    OpinionWritten,
    Person,
    Signed,
    Started,
)
from lianzhen_protocol.settling import RuleBook
from support.consultations import CASE, DOCTOR, happens
from support.money import REGION, RULES
from unit.consultations.desk import Desk, expert

OPINION = Opinion(id="0" * 31 + "1", digest="0" * 64)


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with Desk(tmp_path) as made:
        await made.work(lambda page: page.put(RuleBook(rules=RULES, region=REGION)))
        yield made


def actor(person: Person) -> Actor:
    return Actor(id=person.id, login=person.id, name=person.name, roles=frozenset({Role.EXPERT}))


async def acts(desk: Desk) -> list[tuple[str, str]]:
    """(who, what) of every row, all of them about the case's patient."""
    patient = (await desk.case()).patient_id
    rows = await desk.work(lambda page: page.audit_trail(HUB_LOG))
    assert {row.entry.patient for row in rows if row.entry} == {patient}
    return [(row.entry.actor, row.entry.action) for row in rows if row.entry]


async def test_each_act_is_in_the_log_and_the_expert_is_paid_once(desk: Desk) -> None:
    await desk.experts(expert("a"), expert("b"))
    await desk.pending()
    await desk.step()
    first = (await desk.case()).expert
    assert first is not None
    await desk.happens(first, Declined(reason="在手术"))
    await desk.step()
    second = (await desk.case()).expert
    assert second is not None
    await desk.happens(second, Accepted())
    await desk.happens(second, Started())
    desk.now_ms += 20 * 60_000
    await desk.work(lambda page: opinions.save(page, actor(second), CASE, Draft(findings="x")))
    await desk.happens(second, OpinionWritten(opinion=OPINION))
    await desk.happens(second, Signed(opinion=OPINION))
    done = happens(9, DOCTOR, Completed(opinion=OPINION.id), desk.now_ms + 1000)
    for _ in range(3):  # the box says it again
        await desk.hears(done)
    assert await acts(desk) == [
        ("triage", "create"),
        (DOCTOR.id, "submit"),
        (first.id, "decide"),
        (second.id, "decide"),
        (second.id, "decide"),
        (second.id, "change"),
        (second.id, "change"),
        (second.id, "sign"),
        (DOCTOR.id, "decide"),
    ]
    earned = await desk.work(lambda page: page.get(Earning, CASE))
    assert earned is not None
    assert (earned.expert_id, earned.pay.minutes, earned.pay.title_bp) == (second.id, 20, 15_000)
    found = await desk.work(lambda page: ledger.balances(page.connection))
    fen = {each.id: each.fen for each in found}
    assert fen == {"pay-expense": earned.pay.fen, f"pay-payable:{second.id}": -earned.pay.fen}
