"""Rows of an audit log as people read them: with names, newest first; and whether it is whole."""

from collections.abc import Iterable, Mapping

import msgspec

from lianzhen_protocol.accounts import Account
from lianzhen_protocol.audit import Row, Verdict
from lianzhen_protocol.consultation import Consultation
from lianzhen_protocol.people import Patient, masked_name
from lianzhen_protocol.sheets import Sheets
from lianzhen_protocol.wearables import Wearable

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
    about: str = ""
    """What a person would call the subject, where its sheet is here; of a patient no whole name,
    as whoever keeps the log need not know who they are."""


class LogState(msgspec.Struct, frozen=True, kw_only=True):
    """How a log was found."""

    log: str
    place: str
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
    about: dict[str, str] = {}
    found = []
    for log, row in rows:
        entry = row.entry
        actor, subject = (entry.actor, entry.subject) if entry else ("", "")
        if subject not in about:
            about[subject] = clinics.get(subject.partition("/")[2]) or _about(sheets, subject)
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
                subject=subject,
                about=about[subject],
            )
        )
    return found


def _about(sheets: Sheets, subject: str) -> str:
    kind, _, key = subject.partition("/")
    match kind:
        case "patient":
            patient = sheets.get(Patient, key)
            return masked_name(patient.name) if patient else ""
        case "consultation":
            case = sheets.get(Consultation, key)
            return _about(sheets, f"patient/{case.patient_id}") if case else ""
        case "account":
            account = sheets.get(Account, key)
            return account.profile.name if account else ""
        case "wearable":
            wearable = sheets.get(Wearable, key)
            return wearable.name if wearable else ""
        case _:
            return ""


def state(verdict: Verdict, clinics: Mapping[str, str]) -> LogState:
    """A verdict for a page."""
    return LogState(
        log=verdict.log,
        place=clinics.get(verdict.log, ""),
        rows=verdict.rows,
        heads=verdict.heads,
        head=f"{verdict.head.seq}:{verdict.head.hash.hex()[:16]}",
        broken=verdict.finding.sentence if verdict.finding else "",
    )
