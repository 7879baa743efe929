"""The ledger in the words of another program: beancount's (https://beancount.github.io).

Whoever doubts our sums can let it do them again.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from lianzhen_protocol.fees import china_time
from lianzhen_protocol.ledger import Nature, Step, Transfer
from lianzhen_protocol.postings import nature_of

_ROOTS: Final = {
    Nature.ASSET: "Assets",
    Nature.LIABILITY: "Liabilities",
    Nature.INCOME: "Income",
    Nature.EXPENSE: "Expenses",
}


def beancount(transfers: Iterable[Transfer]) -> Iterator[str]:
    """Lines of a beancount file with every posted transfer; what is only pending is a comment."""
    opened: set[str] = set()
    yield 'option "operating_currency" "CNY"'
    for each in transfers:
        day = china_time(each.at_ms).date().isoformat()
        if each.step in (Step.PENDING, Step.VOID):
            yield f"; {day} {each.step} {each.id} {each.memo} {yuan(each.amount_fen)} CNY"
            continue
        for account in (each.debit, each.credit):
            if account not in opened:
                opened.add(account)
                # From the beginning: transfers are in the order of their entry, not of their days.
                yield f"1970-01-01 open {account_name(account)} CNY"
        yield f'{day} * "{each.memo}" "{each.step}" ^{each.claim} ^{each.id}'
        yield f"  {account_name(each.debit)}  {yuan(each.amount_fen)} CNY"
        yield f"  {account_name(each.credit)}  {yuan(-each.amount_fen)} CNY"


def account_name(account: str) -> str:
    """``fund:520300`` as ``Assets:Fund:N520300``."""
    kind, _, whose = account.partition(":")
    parts = [_ROOTS[nature_of(account)], kind.title().replace("-", "")]
    return ":".join([*parts, f"N{whose}"] if whose else parts)


def yuan(fen: int) -> str:
    """Fen as yuan with two digits, by integers alone."""
    sign = "-" if fen < 0 else ""
    return f"{sign}{abs(fen) // 100}.{abs(fen) % 100:02d}"
