"""A completed consultation becomes a claim: what box and hub do alike about it; pure."""

from typing import ClassVar

import msgspec

from .consultation import Consultation, Signed
from .fees import Rules, year_of
from .settlement import Coverage, Settlement, SettlementPending, claim_of, split, standing_of
from .sheets import Index, Sheet, Sheets

LEVEL = "city"
"""Level of the hospital whose experts answer, where nothing else is said."""


class RuleBook(Sheet, frozen=True):
    """The rules that this machine settles by, as it read them at its last start."""

    SHEET: ClassVar[str] = "rule-book"
    rules: Rules
    region: str
    level: str = LEVEL

    def index(self) -> Index:
        """There is one."""
        return Index("rules")


def rule_book(book: Sheets) -> RuleBook | None:
    """The rules, once they were read."""
    return book.get(RuleBook, "rules")


def worked(consultation: Consultation) -> tuple[int, int]:
    """(begun in UTC ms, minutes): from acceptance to the first signature, begun minutes count.

    Both are the hub's times, in events that box and hub have alike.
    """
    signed = [each.at_ms for each in consultation.events if isinstance(each.what, Signed)]
    end = signed[0] if signed else consultation.completed_ms
    begun = consultation.accepted_ms
    if begun is None or end is None or end < begun:
        return begun or consultation.drafted_ms, 1
    return begun, max(1, -(-(end - begun) // 60_000))


def settle(
    book: Sheets, rules: RuleBook, consultation: Consultation, claim_id: str, by: str
) -> SettlementPending:
    """The claim for a completed consultation, by what this machine knows.

    SettlementError where no price is known for the day.
    """
    begun_ms, minutes = worked(consultation)
    coverage = book.get(Coverage, consultation.patient_id)
    region = coverage.region if coverage else rules.region
    insurance = coverage.insurance if coverage else ""
    tariff = rules.rules.tariff_for(region, rules.level, begun_ms)
    policy = rules.rules.policy_for(region, insurance, begun_ms)
    standing = standing_of(book, consultation.patient_id, begun_ms, year_of(begun_ms))
    total = tariff.price(minutes)
    return SettlementPending(
        claim_id=claim_id,
        consultation_id=consultation.id,
        patient_id=consultation.patient_id,
        region=region,
        insurance=insurance,
        level=rules.level,
        minutes=minutes,
        service_ms=begun_ms,
        tariff_id=tariff.id,
        tariff_version=tariff.version,
        policy_id=policy.id if policy else "",
        policy_version=policy.version if policy else 0,
        account_fen=standing.account_fen,
        split=split(total, total, policy, standing),
        settled_by=by,
    )


class Line(msgspec.Struct, frozen=True):
    """One line of a bill: the key of its name, and an amount."""

    word: str
    fen: int


def bill(settlement: Settlement) -> list[Line]:
    """A claim line by line: the price, who pays what of it, and what the patient pays."""
    found = settlement.split
    return [
        Line("total", found.total_fen),
        Line("in_scope", found.in_scope_fen),
        Line("deductible", found.deductible_fen),
        Line("fund", found.fund_fen),
        Line("account", found.account_fen),
        Line("cash", found.cash_fen),
    ]


def unsettled(book: Sheets, patient_id: str) -> list[Consultation]:
    """Completed consultations of a patient that no standing claim is for."""
    done = [
        each for each in book.find(Consultation, owner=patient_id) if each.completed_ms is not None
    ]
    return [each for each in done if claim_of(book, each.id) is None]
