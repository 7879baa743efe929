"""What an expert finds in the inbox, and what an expert may do with a case."""

import msgspec
from sqlalchemy import select

from lianzhen_hub.page import HubPage
from lianzhen_hub.store import tables
from lianzhen_hub.store.sheets import HubSheets
from lianzhen_protocol.accounts import Actor
from lianzhen_protocol.consultation import Accepted, Consultation, Declined, Started, State
from lianzhen_protocol.matching import (
    Bar,
    Expert,
    Match,
    Standing,
    bars,
    inbox_order,
    urgent,
)
from lianzhen_protocol.sheets import Sheets

from .access import NoSuchCase, case_of, expert_of, is_on
from .assignment import MOST, request_of
from .history import happen

_BY_CHOICE = frozenset({Bar.ASKED, Bar.LOAD, Bar.OFFLINE})
"""What keeps the hub from asking keeps nobody from offering."""
_OWN = (
    State.ACCEPTED,
    State.IN_PROGRESS,
    State.OPINION,
    State.SIGNED,
    State.AMENDED,
    State.COMPLETED,
)


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A case as a list shows it: nothing of the patient, until somebody is on it."""

    id: str
    state: State
    department: str
    acuity: int | None
    urgent: bool
    icd: str
    clinic: str
    pending_ms: int
    deadline_ms: int | None
    studies: int
    complaint: str = ""
    match: Match | None = None


class Inbox(msgspec.Struct, frozen=True, kw_only=True):
    """Cases in the order in which they should be looked at."""

    profile: bool
    """Whether an admin has made this expert's profile; without one nothing comes."""
    asked: list[Row]
    open: list[Row]
    own: list[Row]


def inbox_of(sheets: HubSheets, actor: Actor) -> Inbox:
    """Who is asked, what is open and fits, what is under way or done."""
    expert, clinics = sheets.get(Expert, actor.id), clinic_names(sheets)
    asked = [each for each in _in(sheets, State.ASSIGNED) if is_on(each, actor)]
    own = [each for state in _OWN for each in _in(sheets, state) if is_on(each, actor)]
    free = [each for each in _in(sheets, State.PENDING) if expert and fits(each, expert)]
    own.sort(key=lambda each: each.pending_ms or 0, reverse=True)
    return Inbox(
        profile=expert is not None,
        asked=[_row(each, clinics, on_it=True) for each in _ordered(asked)],
        open=[_row(each, clinics, on_it=False) for each in _ordered(free)],
        own=[_row(each, clinics, on_it=True) for each in own],
    )


def fits(consultation: Consultation, expert: Expert) -> bool:
    """Whether law, consent and specialty let this expert take it."""
    found = bars(request_of(consultation), expert, Standing(online=True))
    return _BY_CHOICE.issuperset(found)


def accept(page: HubPage, actor: Actor, consultation: str) -> Consultation:
    """Take a case that one is asked for, or an open one that fits; NoSuchCase for others."""
    held = page.get(Consultation, consultation)
    expert = page.get(Expert, actor.id)
    if held is None or expert is None or not fits(held, expert):
        raise NoSuchCase("there is no such case, or it is not for you")
    if held.state is not State.PENDING:
        case_of(page, actor, consultation)
    return happen(page, consultation, expert_of(actor), Accepted())


def decline(page: HubPage, actor: Actor, consultation: str, reason: str) -> Consultation:
    """Give a case back; the next expert is asked."""
    case_of(page, actor, consultation)
    return happen(page, consultation, expert_of(actor), Declined(reason=reason))


def start(page: HubPage, actor: Actor, consultation: str) -> Consultation:
    """Begin to work on a case."""
    case_of(page, actor, consultation)
    return happen(page, consultation, expert_of(actor), Started())


def clinic_names(sheets: HubSheets) -> dict[str, str]:
    """Box -> its clinic's name."""
    rows = sheets.connection.execute(select(tables.node.c.id, tables.node.c.clinic))
    return {row.id: row.clinic for row in rows}


def _in(sheets: Sheets, state: State) -> list[Consultation]:
    return sheets.find(Consultation, state=state, limit=MOST)


def _ordered(found: list[Consultation]) -> list[Consultation]:
    return sorted(found, key=lambda each: inbox_order(each.acuity, each.pending_ms or 0, each.id))


def _row(case: Consultation, clinics: dict[str, str], *, on_it: bool) -> Row:
    return Row(
        id=case.id,
        state=case.state,
        department=case.department,
        acuity=case.acuity,
        urgent=urgent(case.acuity),
        icd=case.icd,
        clinic=clinics.get(case.node, case.node),
        pending_ms=case.pending_ms or case.drafted_ms,
        deadline_ms=case.deadline_ms,
        studies=len(case.studies),
        complaint=case.complaint if on_it else "",
        match=case.match if on_it else None,
    )
