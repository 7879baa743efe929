"""The double-entry ledger: immutable transfers of integer fen between two accounts; pure.

A transfer takes an amount from one account (credit) to another (debit), so the sum over all
accounts is zero whatever happens. It has an id that whoever wants it made: asking again with the
same words is the same transfer, with other words it is refused. A pending transfer is posted or
voided at most once; what is posted is corrected only by a reversal, once, and never edited
(the semantics are TigerBeetle's, docs.tigerbeetle.com, "Two-Phase Transfers").
"""

import enum
import hashlib
from collections.abc import Iterator
from typing import Annotated, Final

import msgspec

from .errors import LedgerError

Amount = Annotated[int, msgspec.Meta(ge=1, le=10**12)]


class Step(enum.StrEnum):
    """What a transfer does."""

    DIRECT = "direct"
    """Posted at once."""
    PENDING = "pending"
    """Held until it is posted or voided."""
    POST = "post"
    """Makes a pending one good, whole."""
    VOID = "void"
    """Drops a pending one, whole."""
    REVERSE = "reverse"
    """Takes a posted one back: debit and credit change places."""


_TARGETS: Final = {
    Step.POST: (Step.PENDING,),
    Step.VOID: (Step.PENDING,),
    Step.REVERSE: (Step.DIRECT, Step.POST),
}
"""What a step may be about."""


class Journal(enum.StrEnum):
    """Separate books with rules of their own."""

    SETTLEMENT = "settlement"
    PAY = "pay"


class Nature(enum.StrEnum):
    """What an account is, in the words of bookkeeping."""

    ASSET = "asset"
    LIABILITY = "liability"
    INCOME = "income"
    EXPENSE = "expense"


class Transfer(msgspec.Struct, frozen=True, kw_only=True):
    """One entry. ``of`` names the transfer that a POST, VOID or REVERSE is about."""

    id: str
    journal: Journal
    step: Step
    debit: str
    credit: str
    amount_fen: Amount
    claim: str
    """What it is entered for: a claim of settlement, a consultation that was worked."""

    memo: str
    """One word: fund, account, cash, difference, pay, ..."""

    at_ms: int
    of: str | None = None


class Balance(msgspec.Struct, kw_only=True):
    """An account in fen: what was posted, and what pending transfers hold."""

    debit_fen: int = 0
    credit_fen: int = 0
    pending_debit_fen: int = 0
    pending_credit_fen: int = 0

    @property
    def fen(self) -> int:
        """Posted: debits less credits. Over all accounts it sums to zero."""
        return self.debit_fen - self.credit_fen


class Movement(msgspec.Struct, frozen=True):
    """What a transfer does to the balance of one account."""

    account: str
    debit_fen: int = 0
    credit_fen: int = 0
    pending_debit_fen: int = 0
    pending_credit_fen: int = 0


def transfer_id(claim: str, memo: str, step: Step) -> str:
    """The id of a claim's transfer, 32 hex digits: whoever asks again makes the same one."""
    what = f"lz/1 transfer\0{claim}|{memo}|{step}".encode()
    return hashlib.sha256(what).hexdigest()[:32]


def about(target: Transfer, step: Step, at_ms: int) -> Transfer:
    """The transfer that posts, voids or reverses ``target``."""
    debit, credit = target.debit, target.credit
    if step is Step.REVERSE:
        debit, credit = credit, debit
    return Transfer(
        id=transfer_id(target.id, target.memo, step),
        journal=target.journal,
        step=step,
        debit=debit,
        credit=credit,
        amount_fen=target.amount_fen,
        claim=target.claim,
        memo=target.memo,
        at_ms=at_ms,
        of=target.id,
    )


def check(
    wanted: Transfer, same_id: Transfer | None, target: Transfer | None, answer: Transfer | None
) -> bool:
    """Whether ``wanted`` is to be entered; False if it was already. LedgerError if it may not be.

    ``same_id`` is the transfer of that id, ``target`` the one that ``wanted.of`` names, ``answer``
    whatever was entered about that target before; None where there is none.
    """
    if same_id is not None:
        if _words(same_id) != _words(wanted):
            raise LedgerError(
                f"transfer {wanted.id} was entered with other words", code="transfer-id-reused"
            )
        return False
    if wanted.debit == wanted.credit or wanted.amount_fen <= 0:
        raise LedgerError(f"transfer {wanted.id} moves nothing")
    allowed = _TARGETS.get(wanted.step)
    if allowed is None:
        if wanted.of is not None:
            raise LedgerError(f"a {wanted.step} transfer is about no other")
        return True
    if target is None:
        raise LedgerError(f"there is no transfer {wanted.of}", code="transfer-unknown")
    if target.step not in allowed:
        raise LedgerError(
            f"a {target.step} transfer takes no {wanted.step}", code="transfer-not-for-that"
        )
    if answer is not None:
        raise LedgerError(
            f"transfer {target.id} had its {answer.step} already", code="transfer-resolved"
        )
    if _words(about(target, wanted.step, 0)) != _words(wanted):
        raise LedgerError(f"transfer {wanted.id} is not the {wanted.step} of {target.id}")
    return True


def movements(transfer: Transfer) -> tuple[Movement, Movement]:
    """What it does to its two accounts, debit first."""
    amount, debit, credit = transfer.amount_fen, transfer.debit, transfer.credit
    match transfer.step:
        case Step.DIRECT | Step.REVERSE:
            return Movement(debit, debit_fen=amount), Movement(credit, credit_fen=amount)
        case Step.PENDING:
            return (
                Movement(debit, pending_debit_fen=amount),
                Movement(credit, pending_credit_fen=amount),
            )
        case Step.POST:
            return (
                Movement(debit, debit_fen=amount, pending_debit_fen=-amount),
                Movement(credit, credit_fen=amount, pending_credit_fen=-amount),
            )
        case Step.VOID:
            return (
                Movement(debit, pending_debit_fen=-amount),
                Movement(credit, pending_credit_fen=-amount),
            )


class Ledger:
    """A ledger in memory: what the hub's tables must equal."""

    def __init__(self) -> None:
        self._transfers: dict[str, Transfer] = {}
        self._answers: dict[str, Transfer] = {}
        self.balances: dict[str, Balance] = {}

    def __iter__(self) -> Iterator[Transfer]:
        return iter(self._transfers.values())

    def enter(self, transfer: Transfer) -> bool:
        """Enter it; False if it was entered before. LedgerError: nothing was entered."""
        target = self._transfers.get(transfer.of) if transfer.of else None
        answer = self._answers.get(transfer.of) if transfer.of else None
        if not check(transfer, self._transfers.get(transfer.id), target, answer):
            return False
        self._transfers[transfer.id] = transfer
        if transfer.of is not None:
            self._answers[transfer.of] = transfer
        for movement in movements(transfer):
            balance = self.balances.setdefault(movement.account, Balance())
            balance.debit_fen += movement.debit_fen
            balance.credit_fen += movement.credit_fen
            balance.pending_debit_fen += movement.pending_debit_fen
            balance.pending_credit_fen += movement.pending_credit_fen
        return True


def _words(transfer: Transfer) -> Transfer:
    """What must be equal in two transfers of one id: all but the time of asking."""
    return msgspec.structs.replace(transfer, at_ms=0)
