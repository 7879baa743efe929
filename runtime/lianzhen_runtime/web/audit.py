"""Rows of an audit log as people read them: with names, newest first; and whether it is whole."""

from collections.abc import Iterable, Mapping

import msgspec

from lianzhen_protocol.accounts import Account
from lianzhen_protocol.audit import Row, Verdict
from lianzhen_protocol.sheets import Sheets

SHOWN = 200
"""Rows on a page."""


class AuditLine(msgspec.Struct, frozen=True, kw_only=True):
    """One row; ``action`` is empty for one that no longer opens."""

    log: str
    place: str
    """Whose log it is: a clinic's name; empty for the hub's."""

    seq: int
    at_ms: int
    actor: str
    name: str
    action: str
    subject: str


class LogState(msgspec.Struct, frozen=True, kw_only=True):
    """How a log was found."""

    log: str
    rows: int
    heads: int
    head: str
    broken: str
    """What is wrong with it, in a sentence; empty for a whole one."""


def lines(
    sheets: Sheets, rows: Iterable[tuple[str, Row]], clinics: Mapping[str, str]
) -> list[AuditLine]:
    """(log, row) pairs with the names of accounts that are known here, and of ``clinics``."""
    names = dict(clinics)
    found = []
    for log, row in rows:
        entry = row.entry
        actor = entry.actor if entry else ""
        if actor not in names:
            account = sheets.get(Account, actor) if actor else None
            names[actor] = account.profile.name if account else ""
        found.append(
            AuditLine(
                log=log,
                place=clinics.get(log, ""),
                seq=row.seq,
                at_ms=entry.at_ms if entry else 0,
                actor=actor,
                name=names[actor],
                action=entry.action if entry else "",
                subject=entry.subject if entry else "",
            )
        )
    return found


def state(verdict: Verdict) -> LogState:
    """A verdict for a page."""
    return LogState(
        log=verdict.log,
        rows=verdict.rows,
        heads=verdict.heads,
        head=f"{verdict.head.seq}:{verdict.head.hash.hex()[:16]}",
        broken=verdict.finding.sentence if verdict.finding else "",
    )
