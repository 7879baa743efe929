"""What an expert is paid for a completed consultation: posted in a journal of its own."""

from typing import ClassVar

import msgspec

from lianzhen_hub.page import HubPage
from lianzhen_protocol import fees, postings
from lianzhen_protocol.consultation import Consultation
from lianzhen_protocol.fees import Pay
from lianzhen_protocol.ledger import Journal
from lianzhen_protocol.matching import URGENT_ACUITY, Expert
from lianzhen_protocol.settling import rule_book, worked
from lianzhen_protocol.sheets import Index, Sheet

from . import ledger


class Earning(Sheet, frozen=True):
    """One consultation on an expert's statement: how the pay came to be."""

    SHEET: ClassVar[str] = "earning"
    consultation_id: str
    expert_id: str
    expert_name: str
    begun_ms: int
    urgent: bool
    pay: Pay
    posted_ms: int
    clawed_back_ms: int | None = None

    @property
    def fen(self) -> int:
        """What stands."""
        return 0 if self.clawed_back_ms is not None else self.pay.fen

    def index(self) -> Index:
        """By expert, in the order of the work."""
        state = "posted" if self.clawed_back_ms is None else "reversed"
        return Index(self.consultation_id, self.expert_id, state, self.begun_ms)


def pay_expert(page: HubPage, consultation: Consultation) -> None:
    """Post the pay of a completed consultation, once. Where no rule holds an admin is told."""
    expert = consultation.expert
    if expert is None or page.get(Earning, consultation.id) is not None:
        return
    begun_ms, minutes = worked(consultation)
    rules = rule_book(page)
    rule = rules.rules.pay_for(begun_ms) if rules else None
    if rule is None:
        page.notice("pay-no-rule", f"consultation {consultation.id}: add a [[pay]] for its day")
        return
    profile = page.get(Expert, expert.id)
    urgent = consultation.acuity is not None and consultation.acuity <= URGENT_ACUITY
    title = profile.title if profile else ""
    earned = fees.pay(rule, minutes, title, begun_ms, urgent=urgent)
    entry = postings.pay_of(consultation.id, expert.id, earned, page.now_ms)
    if entry is not None:
        ledger.enter(page.connection, [entry])
    page.put(
        Earning(
            consultation_id=consultation.id,
            expert_id=expert.id,
            expert_name=expert.name,
            begun_ms=begun_ms,
            urgent=urgent,
            pay=earned,
            posted_ms=page.now_ms,
        )
    )


def claw_back(page: HubPage, consultation_id: str) -> None:
    """Take the pay of a consultation back, in the month in which this happens."""
    earned = page.get(Earning, consultation_id)
    if earned is None or earned.clawed_back_ms is not None:
        return
    entered = ledger.of_claim(page.connection, consultation_id, Journal.PAY)
    ledger.enter(page.connection, postings.reversal_of(entered, page.now_ms))
    page.put(msgspec.structs.replace(earned, clawed_back_ms=page.now_ms))
