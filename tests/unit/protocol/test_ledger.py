"""The ledger against a model that knows nothing of it, and its export against beancount."""

from collections import defaultdict
from decimal import Decimal

import msgspec
import pytest
from beancount import loader
from beancount.core import realization
from beancount.core.data import Transaction
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from lianzhen_hub.settlement.export import account_name, beancount, yuan
from lianzhen_protocol import fees, postings
from lianzhen_protocol.errors import LedgerError
from lianzhen_protocol.ledger import Journal, Ledger, Step, Transfer, about
from lianzhen_protocol.settlement import Split
from support.money import NODE, RULES, SERVICE_MS, claim, fen, hex_id

ACCOUNTS = [f"fund:{number}" for number in range(3)] + ["revenue:a", "cash:a"]


def transfer(number: int, step: Step = Step.DIRECT, **changes: object) -> Transfer:
    made = Transfer(
        id=hex_id(number), journal=Journal.SETTLEMENT, step=step, debit=ACCOUNTS[0],
        credit=ACCOUNTS[3], amount_fen=100, claim=hex_id(9), memo="fund", at_ms=SERVICE_MS,
    )  # fmt: skip
    return msgspec.structs.replace(made, **changes)


class LedgerMachine(RuleBasedStateMachine):
    """The model: a list of what was agreed, and sums done anew each time."""

    @initialize()
    def begin(self) -> None:
        self.ledger = Ledger()
        self.model: list[Transfer] = []

    @rule(
        number=st.integers(1, 12),
        step=st.sampled_from([Step.DIRECT, Step.PENDING]),
        debit=st.sampled_from(ACCOUNTS),
        credit=st.sampled_from(ACCOUNTS),
        amount=st.integers(1, 500),
    )
    def first(self, number: int, step: Step, debit: str, credit: str, amount: int) -> None:
        wanted = transfer(number, step, debit=debit, credit=credit, amount_fen=amount)
        same = [each for each in self.model if each.id == wanted.id]
        if same == [wanted]:
            assert self.ledger.enter(wanted) is False
        elif same or debit == credit:
            self.refused(wanted)
        else:
            self.entered(wanted)

    @rule(number=st.integers(0, 40), step=st.sampled_from([Step.POST, Step.VOID, Step.REVERSE]))
    def second(self, number: int, step: Step) -> None:
        if not self.model:
            return
        target = self.model[number % len(self.model)]
        wanted = about(target, step, SERVICE_MS)
        fits = {
            Step.POST: target.step == "pending",
            Step.VOID: target.step == "pending",
            Step.REVERSE: target.step in ("direct", "post"),
        }[step]
        answers = [each for each in self.model if each.of == target.id]
        if wanted in answers:
            assert self.ledger.enter(wanted) is False
        elif not fits or answers:
            self.refused(wanted)
        else:
            self.entered(wanted)

    @rule(number=st.integers(0, 40), amount=st.integers(1, 500))
    def bent(self, number: int, amount: int) -> None:
        """A known id with other words, or a post of another amount, is refused."""
        if not self.model:
            return
        target = self.model[number % len(self.model)]
        if amount != target.amount_fen:
            self.refused(msgspec.structs.replace(target, amount_fen=amount))
            bent = msgspec.structs.replace(about(target, Step.POST, 0), amount_fen=amount)
            self.refused(bent)

    def entered(self, wanted: Transfer) -> None:
        assert self.ledger.enter(wanted) is True
        self.model.append(wanted)

    def refused(self, wanted: Transfer) -> None:
        with pytest.raises(LedgerError):
            self.ledger.enter(wanted)

    @invariant()
    def balances_are_the_sums(self) -> None:
        posted: dict[str, int] = defaultdict(int)
        held: dict[str, int] = defaultdict(int)
        resolved = {each.of for each in self.model if each.step != "reverse"}
        for each in self.model:
            if each.step in ("direct", "post", "reverse"):
                posted[each.debit] += each.amount_fen
                posted[each.credit] -= each.amount_fen
            elif each.step == "pending" and each.id not in resolved:
                held[each.debit] += each.amount_fen
                held[each.credit] -= each.amount_fen
        found = self.ledger.balances
        assert {k: b.fen for k, b in found.items() if b.fen} == {
            k: v for k, v in posted.items() if v
        }
        pending = {k: b.pending_debit_fen - b.pending_credit_fen for k, b in found.items()}
        assert {k: v for k, v in pending.items() if v} == {k: v for k, v in held.items() if v}
        assert sum(balance.fen for balance in found.values()) == 0
        assert all(min(msgspec.structs.astuple(balance)) >= 0 for balance in found.values())
        assert list(self.ledger) == self.model


TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


# -- why something is refused


@pytest.mark.parametrize(
    ("entered", "wanted", "code"),
    [
        ([transfer(1)], transfer(1, amount_fen=5), "transfer-id-reused"),
        ([], transfer(1, credit=ACCOUNTS[0]), "transfer-malformed"),
        ([], transfer(1, amount_fen=0), "transfer-malformed"),
        ([], transfer(1, of=hex_id(2)), "transfer-malformed"),
        ([], about(transfer(1, Step.PENDING), Step.POST, 0), "transfer-unknown"),
        ([transfer(1)], about(transfer(1), Step.POST, 0), "transfer-not-for-that"),
        ([transfer(1, Step.PENDING)], about(transfer(1, Step.PENDING), Step.REVERSE, 0),
         "transfer-not-for-that"),
        ([transfer(1, Step.PENDING), about(transfer(1, Step.PENDING), Step.VOID, 0)],
         about(transfer(1, Step.PENDING), Step.POST, 0), "transfer-resolved"),
    ],
)  # fmt: skip
def test_what_the_ledger_refuses(entered: list[Transfer], wanted: Transfer, code: str) -> None:
    ledger = Ledger()
    for each in entered:
        ledger.enter(each)
    with pytest.raises(LedgerError) as error:
        ledger.enter(wanted)
    assert error.value.code == code
    assert list(ledger) == entered


# -- postings


def posted(said: Split) -> Ledger:
    """A claim that the box settled, posted with the hub's figures ``said``."""
    ledger = Ledger()
    pending = postings.pending_of(claim(), NODE, SERVICE_MS)
    made = [
        *pending,
        *(about(each, Step.POST, SERVICE_MS) for each in pending),
        *postings.difference_of(claim(), NODE, said, SERVICE_MS),
    ]
    for each in made:
        assert ledger.enter(each)
    for each in made:  # asked again, nothing is entered
        assert not ledger.enter(each)
    return ledger


@st.composite
def splits(draw: st.DrawFn) -> Split:
    fund, account, cash = draw(fen), draw(fen), draw(fen)
    total = fund + account + cash
    return Split(
        total_fen=total, in_scope_fen=total, deductible_fen=0,
        fund_fen=fund, account_fen=account, cash_fen=cash,
    )  # fmt: skip


@given(splits())
def test_a_difference_takes_the_ledger_to_the_hubs_figures(hub: Split) -> None:
    ledger = posted(hub)
    found = {account: balance.fen for account, balance in ledger.balances.items()}
    assert found.get("fund:520300", 0) == hub.fund_fen
    assert found.get("account:520300", 0) == hub.account_fen
    assert found.get(f"cash:{NODE}", 0) + found.get(f"due:{NODE}", 0) == hub.cash_fen
    assert found.get(f"revenue:{NODE}", 0) == -hub.total_fen
    # what the patient really paid stays as it was: only "due" says what is still owed
    assert found.get(f"cash:{NODE}", 0) == claim().split.cash_fen


def test_no_difference_is_no_transfer() -> None:
    assert postings.difference_of(claim(), NODE, claim().split, SERVICE_MS) == ()


@given(splits())
def test_a_reversal_leaves_nothing_but_its_history(hub: Split) -> None:
    ledger = posted(hub)
    for each in postings.reversal_of(list(ledger), SERVICE_MS + 1):
        assert ledger.enter(each)
    assert all(balance.fen == 0 for balance in ledger.balances.values())
    assert postings.reversal_of(list(ledger), SERVICE_MS + 2) == ()


def test_what_is_only_pending_is_voided() -> None:
    ledger = Ledger()
    for each in postings.pending_of(claim(), NODE, SERVICE_MS):
        ledger.enter(each)
    for each in postings.reversal_of(list(ledger), SERVICE_MS):
        assert each.step is Step.VOID
        ledger.enter(each)
    assert all(min(msgspec.structs.astuple(b)) == 0 for b in ledger.balances.values())
    assert not any(balance.pending_debit_fen for balance in ledger.balances.values())


def test_pay_is_a_journal_of_its_own() -> None:
    rule = RULES.pay_for(SERVICE_MS)
    assert rule is not None
    earned = fees.pay(rule, 25, "chief", SERVICE_MS, urgent=False)
    entry = postings.pay_of(hex_id(7), hex_id(8), earned, SERVICE_MS)
    assert entry is not None
    assert (entry.journal, entry.debit, entry.credit) == (
        Journal.PAY, "pay-expense", f"pay-payable:{hex_id(8)}",
    )  # fmt: skip
    nothing = msgspec.structs.replace(earned, fen=0)
    assert postings.pay_of(hex_id(7), hex_id(8), nothing, SERVICE_MS) is None


# -- the same sums by a program that is not ours


@pytest.mark.parametrize("reverse", [False, True])
def test_beancount_finds_the_same_balances(reverse: bool) -> None:
    ledger = posted(
        Split(total_fen=30_001, in_scope_fen=30_001, deductible_fen=0, fund_fen=10_007,
              account_fen=19, cash_fen=19_975)
    )  # fmt: skip
    if reverse:
        for each in postings.reversal_of(list(ledger), SERVICE_MS):
            ledger.enter(each)
    held = transfer(99, Step.PENDING)
    ledger.enter(held)
    entries, errors, _ = loader.load_string("\n".join(beancount(ledger)))
    assert errors == []
    posted_ones = [each for each in ledger if each.step not in (Step.PENDING, Step.VOID)]
    assert sum(isinstance(each, Transaction) for each in entries) == len(posted_ones)
    real = realization.realize(entries)  # type: ignore[no-untyped-call]
    for account, balance in ledger.balances.items():
        theirs = realization.get(real, account_name(account))  # type: ignore[no-untyped-call]
        total = theirs.balance.get_currency_units("CNY").number if theirs is not None else 0
        assert total == Decimal(yuan(balance.fen))


@pytest.mark.parametrize(
    ("amount", "text"),
    [(0, "0.00"), (5, "0.05"), (-5, "-0.05"), (12_345, "123.45"), (-100, "-1.00")],
)
def test_yuan_by_integers(amount: int, text: str) -> None:
    assert yuan(amount) == text
