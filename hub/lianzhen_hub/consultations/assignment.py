"""Who is asked, and until when: each step is a function of the sheets, the time and who is online.

A consultation that waits is matched: the best expert is asked until a deadline. Where nobody can
be asked it stays in the open inbox, its clinic is told why in its history, an admin in a notice.
Deadlines lie in the sheets, so a hub that was away takes up where it was.
"""

from collections.abc import Collection
from typing import ClassVar, Final

from lianzhen_hub.page import HubPage
from lianzhen_protocol.consultation import (
    HUB,
    Assigned,
    Consultation,
    Expired,
    Opened,
    Person,
    State,
    Who,
)
from lianzhen_protocol.matching import Bar, Expert, Ranking, Request, Standing, inbox_order, rank
from lianzhen_protocol.sheets import Index, Sheet, Sheets

from .history import happen

UNANSWERED: Final = (State.EXPIRED, State.DECLINED, State.PENDING)
OPEN: Final = (State.ASSIGNED, State.ACCEPTED, State.IN_PROGRESS, State.OPINION)
"""What counts as an expert's load."""

MOST: Final = 100_000


class Rota(Sheet, frozen=True):
    """When an expert was last asked."""

    SHEET: ClassVar[str] = "rota"

    expert: str
    asked_ms: int

    def index(self) -> Index:
        """By expert."""
        return Index(self.expert, at_ms=self.asked_ms)


def standings(sheets: Sheets, online: Collection[str]) -> list[tuple[Expert, Standing]]:
    """Every expert, and how each is placed now."""
    load: dict[str, int] = {}
    for state in OPEN:
        for each in sheets.find(Consultation, state=state, limit=MOST):
            if each.expert is not None:
                load[each.expert.id] = load.get(each.expert.id, 0) + 1
    found = []
    for expert in sheets.find(Expert, limit=MOST):
        rota = sheets.get(Rota, expert.id)
        idle_ms = rota.asked_ms if rota else 0
        standing = Standing(expert.id in online, load.get(expert.id, 0), idle_ms)
        found.append((expert, standing))
    return found


def request_of(consultation: Consultation) -> Request:
    """What matching needs to know."""
    return Request(
        department=consultation.department,
        node=consultation.node,
        icd=consultation.icd,
        acuity=consultation.acuity,
        consented=consultation.consent is not None,
        asked=consultation.asked,
    )


def why_nobody(ranking: Ranking) -> str:
    """The nearest thing to somebody: who is only offline, only busy, only asked already."""
    reasons = [set(bars) for bars in ranking.barred.values()]
    for code, allowed in (
        ("nobody-online", {Bar.OFFLINE}),
        ("all-busy", {Bar.OFFLINE, Bar.LOAD}),
        ("all-asked", {Bar.OFFLINE, Bar.LOAD, Bar.ASKED}),
    ):
        if any(reason <= allowed for reason in reasons):
            return code
    return "nobody-eligible"


def due(sheets: Sheets, online: Collection[str], now_ms: int) -> bool:
    """Whether ``step`` would change anything now."""
    if any(each.deadline_ms is not None and each.deadline_ms <= now_ms for each in _asked(sheets)):
        return True
    crowd = standings(sheets, online)
    for each in _unanswered(sheets):
        ranking = rank(request_of(each), crowd)
        if ranking.matches or each.state is not State.PENDING or each.waits != why_nobody(ranking):
            return True
    return False


def step(page: HubPage, online: Collection[str], accept_ms: int) -> None:
    """Let expire what is over time, then ask for whatever waits, the gravest first."""
    for each in _asked(page):
        if each.expert and each.deadline_ms is not None and each.deadline_ms <= page.now_ms:
            happen(page, each.id, HUB, Expired(expert=each.expert.id))
    for each in _unanswered(page):
        place(page, each, online, accept_ms)


def place(
    page: HubPage, consultation: Consultation, online: Collection[str], accept_ms: int
) -> None:
    """Ask the best expert for one consultation, or say why it waits."""
    crowd = standings(page, online)
    ranking = rank(request_of(consultation), crowd)
    if not ranking.matches:
        code = why_nobody(ranking)
        if consultation.state is not State.PENDING or consultation.waits != code:
            happen(page, consultation.id, HUB, Opened(code=code))
            page.notice(code, f"consultation {consultation.id} waits", consultation.node)
        return
    best = ranking.matches[0]
    name = next(expert.name for expert, _ in crowd if expert.id == best.expert)
    asked = Assigned(
        expert=Person(id=best.expert, name=name, who=Who.EXPERT),
        deadline_ms=page.now_ms + accept_ms,
        match=best,
    )
    happen(page, consultation.id, HUB, asked)
    page.put(Rota(expert=best.expert, asked_ms=page.now_ms))


def next_deadline(sheets: Sheets) -> int | None:
    """When the next expert's time is over; None while nobody is asked."""
    found = [each.deadline_ms for each in _asked(sheets) if each.deadline_ms is not None]
    return min(found, default=None)


def _asked(sheets: Sheets) -> list[Consultation]:
    return sheets.find(Consultation, state=State.ASSIGNED, limit=MOST)


def _unanswered(sheets: Sheets) -> list[Consultation]:
    found = [
        each for state in UNANSWERED for each in sheets.find(Consultation, state=state, limit=MOST)
    ]
    return sorted(found, key=lambda each: inbox_order(each.acuity, each.pending_ms or 0, each.id))
