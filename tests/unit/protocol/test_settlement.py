"""The split of a visit: not a fen made or lost, never beyond a cap, and why two splits differ."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lianzhen_protocol import settlement
from lianzhen_protocol.fees import WHOLE, Policy, Rules
from lianzhen_protocol.settlement import Reason, SettlementPending, Split, Standing, split
from support.money import REGION, RULES, SERVICE_MS, claim, fen, policies, standings


@given(fen, fen, policies, standings)
def test_it_conserves_and_stays_within_every_limit(
    total: int, scope: int, policy: Policy, standing: Standing
) -> None:
    scope = min(scope, total)
    found = split(total, scope, policy, standing)
    assert found.fund_fen + found.account_fen + found.cash_fen == found.total_fen == total
    assert min(msgspec.structs.astuple(found)) >= 0
    assert found.conserves()
    assert found.fund_fen <= policy.visit_cap_fen
    assert found.account_fen <= standing.account_fen
    if policy.yearly_cap_fen is not None:
        used = standing.fund_used_fen
        assert used + found.fund_fen <= max(policy.yearly_cap_fen, used)
    # rounded down: the fund never pays a fen more than its ratio
    assert found.fund_fen * WHOLE <= (scope - found.deductible_fen) * policy.ratio_bp


@given(fen, fen, st.integers(0, 10**6), policies, standings)
def test_a_dearer_visit_never_gets_less_from_the_fund(
    total: int, scope: int, more: int, policy: Policy, standing: Standing
) -> None:
    scope = min(scope, total)
    before, after = (split(total + d, scope + d, policy, standing) for d in (0, more))
    assert after.fund_fen >= before.fund_fen
    assert after.fund_fen - before.fund_fen <= more


@given(st.lists(fen, min_size=1, max_size=8), policies)
def test_the_deductible_is_used_up_once_however_a_visit_is_cut(
    parts: list[int], policy: Policy
) -> None:
    standing, used = Standing(), 0
    for part in parts:
        found = split(part, part, policy, standing)
        used += found.deductible_fen
        standing = Standing(
            deductible_used_fen=standing.deductible_used_fen + found.deductible_fen,
            fund_used_fen=standing.fund_used_fen + found.fund_fen,
        )
    assert used == split(sum(parts), sum(parts), policy, Standing()).deductible_fen
    if policy.yearly_cap_fen is not None:
        assert standing.fund_used_fen <= policy.yearly_cap_fen


@given(fen, standings)
def test_without_a_policy_no_fund_pays(total: int, standing: Standing) -> None:
    found = split(total, total, None, standing)
    assert (found.fund_fen, found.in_scope_fen) == (0, 0)
    assert found.account_fen == (min(total, standing.account_fen) if standing.active else 0)


@pytest.mark.parametrize(
    ("insurance", "total", "fund"),
    [
        ("resident", 10_000, 7_000),
        ("resident", 9_999, 6_999),  # 6999.3
        ("resident", 28_571, 19_999),
        ("resident", 28_572, 20_000),
        ("resident", 100_000, 20_000),
        ("employee", 10_000, 8_000),
        ("employee", 18_750, 15_000),
        ("employee", 100_000, 15_000),
    ],
)
def test_the_two_simple_policies_by_hand(insurance: str, total: int, fund: int) -> None:
    policy = RULES.policy_for(REGION, insurance, SERVICE_MS)
    found = split(total, total, policy, Standing(account_fen=500))
    assert (found.fund_fen, found.account_fen, found.cash_fen) == (fund, 500, total - fund - 500)


def test_in_the_order_of_the_rules() -> None:
    """1000 yuan, 800 in scope, 150 deductible of which 50 used, 75 %, 400 a visit, 350 left."""
    policy = Policy(
        id="zunyi", version=1, valid_from=RULES.policy[0].valid_from, source="x", region="r",
        insurance="employee", ratio_bp=7500, visit_cap_fen=40_000, deductible_fen=15_000,
        yearly_cap_fen=200_000,
    )  # fmt: skip
    standing = Standing(deductible_used_fen=5_000, fund_used_fen=165_000, account_fen=20_000)
    assert split(100_000, 80_000, policy, standing) == Split(
        total_fen=100_000, in_scope_fen=80_000, deductible_fen=10_000,
        fund_fen=35_000, account_fen=20_000, cash_fen=45_000,
    )  # fmt: skip


@pytest.mark.parametrize(("total", "scope"), [(-1, 0), (5, 6), (5, -1)])
def test_more_in_scope_than_there_is_is_an_error(total: int, scope: int) -> None:
    with pytest.raises(ValueError, match="in scope"):
        split(total, scope, None, Standing())


# -- the hub's second opinion


def again(said: SettlementPending, standing: Standing, rules: Rules = RULES) -> Reason | None:
    hub, policy = settlement.settle_again(said, rules, standing)
    return settlement.reason_of(said, hub, policy, standing) if hub != said.split else None


def wrong(said: SettlementPending, **changes: int) -> SettlementPending:
    return msgspec.structs.replace(said, split=msgspec.structs.replace(said.split, **changes))


def other(version: int, **changes: object) -> Rules:
    """The shipped rules and a newer policy for residents."""
    newer = msgspec.structs.replace(RULES.policy[0], version=version, **changes)
    return msgspec.structs.replace(RULES, policy=(*RULES.policy, newer))


def test_the_same_rules_and_standing_agree() -> None:
    assert again(claim(), Standing()) is None


@pytest.mark.parametrize(
    ("said", "standing", "rules", "reason"),
    [
        (wrong(claim(), total_fen=1), Standing(), RULES, Reason.PRICE),
        (claim(), Standing(), other(2, ratio_bp=6000), Reason.POLICY),
        (
            msgspec.structs.replace(claim(), policy_version=2),
            Standing(fund_used_fen=100_000),
            other(2, yearly_cap_fen=110_000),
            Reason.YEARLY,
        ),
        (claim(account_fen=0), Standing(account_fen=700), RULES, Reason.ACCOUNT),
        (wrong(claim(), fund_fen=20_001), Standing(), RULES, Reason.ARITHMETIC),
        (wrong(claim(), cash_fen=1), Standing(), RULES, Reason.ARITHMETIC),
    ],
    ids=["price", "policy", "yearly", "account", "fund", "cash"],
)
def test_why_the_hub_finds_another_split(
    said: SettlementPending, standing: Standing, rules: Rules, reason: Reason
) -> None:
    assert again(said, standing, rules) is reason
