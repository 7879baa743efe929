"""Which transfers a claim, its difference, its reversal and an expert's pay are; pure.

The fund and the personal account owe the clinic, cash lies in its till, and all of it is the
clinic's revenue. A difference moves what the box had wrong: what a patient paid too little or too
much stands in ``due`` until somebody settles it with the patient.
"""

from collections.abc import Iterable
from typing import Final

from .fees import Pay
from .ledger import Journal, Nature, Step, Transfer, about, transfer_id
from .settlement import SettlementPending, Split

NATURES: Final = {
    "fund": Nature.ASSET,
    "account": Nature.ASSET,
    "cash": Nature.ASSET,
    "due": Nature.ASSET,
    "revenue": Nature.INCOME,
    "pay-expense": Nature.EXPENSE,
    "pay-payable": Nature.LIABILITY,
}
"""Kinds of accounts: the word before the colon. After it: a region, a node, an expert."""


def nature_of(account: str) -> Nature:
    """What an account is; KeyError for one that no posting makes."""
    return NATURES[account.partition(":")[0]]


def pending_of(claim: SettlementPending, node: str, at_ms: int) -> tuple[Transfer, ...]:
    """What the box settled, held until the hub posts it."""
    revenue = f"revenue:{node}"
    parts = (
        ("fund", f"fund:{claim.region}", claim.split.fund_fen),
        ("account", f"account:{claim.region}", claim.split.account_fen),
        ("cash", f"cash:{node}", claim.split.cash_fen),
    )
    return tuple(
        _transfer(claim.claim_id, memo, Step.PENDING, debit, revenue, amount, at_ms)
        for memo, debit, amount in parts
        if amount
    )


def difference_of(
    claim: SettlementPending, node: str, hub: Split, at_ms: int
) -> tuple[Transfer, ...]:
    """What takes the box's figures to the hub's, as few transfers as there are."""
    box = claim.split
    wrong = {
        f"fund:{claim.region}": hub.fund_fen - box.fund_fen,
        f"account:{claim.region}": hub.account_fen - box.account_fen,
        f"due:{node}": hub.cash_fen - box.cash_fen,
        f"revenue:{node}": box.total_fen - hub.total_fen,
    }
    debits = [(account, amount) for account, amount in wrong.items() if amount > 0]
    credits = [(account, -amount) for account, amount in wrong.items() if amount < 0]
    found: list[Transfer] = []
    while debits and credits:
        (debit, owed), (credit, owned) = debits[0], credits[0]
        amount = min(owed, owned)
        memo = f"difference-{len(found) + 1}"
        found.append(_transfer(claim.claim_id, memo, Step.DIRECT, debit, credit, amount, at_ms))
        debits = _less(debits, amount)
        credits = _less(credits, amount)
    return tuple(found)


def pay_of(consultation_id: str, expert_id: str, pay: Pay, at_ms: int) -> Transfer | None:
    """An expert's pay for one consultation: its own journal. None where a rule pays nothing."""
    if not pay.fen:
        return None
    return _transfer(
        consultation_id,
        "pay",
        Step.DIRECT,
        "pay-expense",
        f"pay-payable:{expert_id}",
        pay.fen,
        at_ms,
        Journal.PAY,
    )


def reversal_of(entered: Iterable[Transfer], at_ms: int) -> tuple[Transfer, ...]:
    """What takes a claim back: each of its posted transfers reversed, each pending one voided."""
    known = list(entered)
    answered = {each.of for each in known}
    steps = {Step.PENDING: Step.VOID, Step.POST: Step.REVERSE, Step.DIRECT: Step.REVERSE}
    return tuple(
        about(each, steps[each.step], at_ms)
        for each in known
        if each.step in steps and each.id not in answered
    )


def _transfer(
    claim: str,
    memo: str,
    step: Step,
    debit: str,
    credit: str,
    amount: int,
    at_ms: int,
    journal: Journal = Journal.SETTLEMENT,
) -> Transfer:
    return Transfer(
        id=transfer_id(claim, memo, step),
        journal=journal,
        step=step,
        debit=debit,
        credit=credit,
        amount_fen=amount,
        claim=claim,
        memo=memo,
        at_ms=at_ms,
    )


def _less(sides: list[tuple[str, int]], amount: int) -> list[tuple[str, int]]:
    """The sides after ``amount`` was taken from the first."""
    (account, left), *rest = sides
    return [(account, left - amount), *rest] if left > amount else rest
