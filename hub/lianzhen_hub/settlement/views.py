"""What admins see of money: the ledger, differences, statements of pay."""

import msgspec
from sqlalchemy import Connection

from lianzhen_protocol.fees import china_time
from lianzhen_protocol.settlement import Difference
from lianzhen_protocol.sheets import Sheets

from . import ledger
from .ledger import AccountView, Check
from .pay import Earning

MOST = 1000


class LedgerView(msgspec.Struct, frozen=True, kw_only=True):
    """The accounts, and whether they are what the transfers make of them."""

    accounts: list[AccountView]
    transfers: int
    claims: int
    sum_fen: int
    sound: bool
    wrong: tuple[str, ...]


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """An expert's pay of one month, by China's calendar."""

    month: str
    expert_id: str
    expert_name: str
    consultations: int
    earned_fen: int
    clawed_back_fen: int
    """Taken back in this month, whenever it was earned."""

    fen: int


def of_ledger(db: Connection) -> LedgerView:
    """Everything, recomputed."""
    found: Check = ledger.check(db)
    return LedgerView(
        accounts=ledger.balances(db),
        transfers=found.transfers,
        claims=ledger.posted_claims(db),
        sum_fen=found.sum_fen,
        sound=found.sound,
        wrong=found.wrong,
    )


def differences(sheets: Sheets) -> list[Difference]:
    """What boxes had otherwise, newest first."""
    return sheets.find(Difference, newest=True, limit=MOST)


def earnings(sheets: Sheets, expert: str | None = None) -> list[Earning]:
    """Single consultations, newest first."""
    return sheets.find(Earning, owner=expert, newest=True, limit=MOST)


def statements(sheets: Sheets, expert: str | None = None) -> list[Statement]:
    """Month by month, newest first; their sum over all months is the ledger's balance."""
    found: dict[tuple[str, str], Statement] = {}
    for each in sheets.find(Earning, owner=expert, limit=1_000_000):
        _add(found, each, each.posted_ms, 1, each.pay.fen, 0)
        if each.clawed_back_ms is not None:
            _add(found, each, each.clawed_back_ms, 0, 0, each.pay.fen)
    return [found[key] for key in sorted(found, reverse=True)]


def _add(
    found: dict[tuple[str, str], Statement],
    each: Earning,
    at_ms: int,
    count: int,
    earned: int,
    back: int,
) -> None:
    month = china_time(at_ms).strftime("%Y-%m")
    key = (month, each.expert_id)
    known = found.get(key) or Statement(
        month=month,
        expert_id=each.expert_id,
        expert_name=each.expert_name,
        consultations=0,
        earned_fen=0,
        clawed_back_fen=0,
        fen=0,
    )
    found[key] = msgspec.structs.replace(
        known,
        consultations=known.consultations + count,
        earned_fen=known.earned_fen + earned,
        clawed_back_fen=known.clawed_back_fen + back,
        fen=known.fen + earned - back,
    )
