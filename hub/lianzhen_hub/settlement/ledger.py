"""The ledger's tables: transfers are only ever added, accounts are their sums.

What may be entered is decided by ``protocol.ledger.check``; the tables' own constraints say the
most important of it once more: an id once, a target answered once, nothing below zero.
"""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection, Row, Select, func, select

from lianzhen_hub.store import sql
from lianzhen_hub.store.tables import account, transfer
from lianzhen_protocol import ledger
from lianzhen_protocol.ledger import Journal, Ledger, Step, Transfer
from lianzhen_protocol.postings import nature_of


class AccountView(msgspec.Struct, frozen=True, kw_only=True):
    """An account in fen; ``fen`` is what was posted, debits less credits."""

    id: str
    nature: str
    debit_fen: int
    credit_fen: int
    pending_debit_fen: int
    pending_credit_fen: int
    fen: int


class Check(NamedTuple):
    """Whether the accounts are what the transfers make of them."""

    transfers: int
    sum_fen: int
    """Over all accounts; anything but 0 is a broken ledger."""

    wrong: tuple[str, ...]
    """Accounts that differ from the sum of their transfers."""

    @property
    def sound(self) -> bool:
        """Whether all is as it should be."""
        return self.sum_fen == 0 and not self.wrong


def enter(db: Connection, wanted: Iterable[Transfer]) -> int:
    """Enter transfers, those that are new; how many were. LedgerError: the caller rolls back."""
    count = 0
    for each in wanted:
        target = _one(db, transfer.c.id == each.of) if each.of else None
        answer = _one(db, transfer.c.of == each.of) if each.of else None
        if ledger.check(each, _one(db, transfer.c.id == each.id), target, answer):
            for movement in ledger.movements(each):
                _move(db, movement)
            db.execute(transfer.insert().values(_values(each)))
            count += 1
    return count


def of_claim(db: Connection, claim: str, journal: Journal) -> list[Transfer]:
    """All that was entered for a claim (or, in the journal of pay, a consultation)."""
    query = _transfers().where(transfer.c.claim == claim, transfer.c.journal == journal)
    return [_transfer(row) for row in db.execute(query)]


def everything(db: Connection, journal: Journal | None = None) -> Iterator[Transfer]:
    """Every transfer in the order of its entry."""
    query = _transfers()
    if journal is not None:
        query = query.where(transfer.c.journal == journal)
    for row in db.execute(query):
        yield _transfer(row)


def balances(db: Connection) -> list[AccountView]:
    """Every account, by its id."""
    rows = db.execute(select(account).order_by(account.c.id))
    return [
        AccountView(
            id=row.id,
            nature=row.nature,
            debit_fen=row.debit_fen,
            credit_fen=row.credit_fen,
            pending_debit_fen=row.pending_debit_fen,
            pending_credit_fen=row.pending_credit_fen,
            fen=row.debit_fen - row.credit_fen,
        )
        for row in rows
    ]


def check(db: Connection) -> Check:
    """Enter all transfers anew into a ledger in memory, and compare."""
    anew, count = Ledger(), 0
    for each in everything(db):
        anew.enter(each)
        count += 1
    found = {each.id: each for each in balances(db)}
    wrong = [
        name
        for name in sorted({*found, *anew.balances})
        if (here := found.get(name)) is None
        or (there := anew.balances.get(name)) is None
        or msgspec.structs.astuple(here)[2:6] != msgspec.structs.astuple(there)
    ]
    return Check(count, sum(each.fen for each in found.values()), tuple(wrong))


def posted_claims(db: Connection) -> int:
    """How many claims have a posted transfer."""
    posted = transfer.c.step.in_([Step.POST, Step.DIRECT])
    query = select(func.count(transfer.c.claim.distinct())).where(posted)
    return db.execute(query).scalar_one()


def _move(db: Connection, movement: ledger.Movement) -> None:
    zero = {
        "id": movement.account,
        "nature": nature_of(movement.account),
        "debit_fen": 0,
        "credit_fen": 0,
        "pending_debit_fen": 0,
        "pending_credit_fen": 0,
    }
    sql.insert_new(db, account, [zero])
    columns = account.c
    db.execute(
        account.update()
        .where(columns.id == movement.account)
        .values(
            debit_fen=columns.debit_fen + movement.debit_fen,
            credit_fen=columns.credit_fen + movement.credit_fen,
            pending_debit_fen=columns.pending_debit_fen + movement.pending_debit_fen,
            pending_credit_fen=columns.pending_credit_fen + movement.pending_credit_fen,
        )
    )


def _transfers() -> Select[Any]:
    return select(transfer).order_by(transfer.c.place)


def _one(db: Connection, clause: Any) -> Transfer | None:
    row = db.execute(select(transfer).where(clause)).one_or_none()
    return None if row is None else _transfer(row)


def _transfer(row: Row[Any]) -> Transfer:
    return Transfer(
        id=row.id,
        journal=Journal(row.journal),
        step=Step(row.step),
        debit=row.debit,
        credit=row.credit,
        amount_fen=row.amount_fen,
        claim=row.claim,
        memo=row.memo,
        at_ms=row.at_ms,
        of=row.of,
    )


def _values(each: Transfer) -> dict[str, Any]:
    return {
        "id": each.id,
        "journal": each.journal,
        "step": each.step,
        "debit": each.debit,
        "credit": each.credit,
        "amount_fen": each.amount_fen,
        "claim": each.claim,
        "memo": each.memo,
        "at_ms": each.at_ms,
        "of": each.of,
    }
