"""What a box's records of money do: coverage is kept, claims are split again and posted."""

from typing import Final

import msgspec

from lianzhen_hub.page import HubPage, Meanings, misplaced
from lianzhen_protocol import postings, settlement
from lianzhen_protocol.errors import RecordError
from lianzhen_protocol.fees import year_of
from lianzhen_protocol.ledger import Step, about
from lianzhen_protocol.records import Record
from lianzhen_protocol.settlement import (
    STREAM,
    Coverage,
    CoverageStated,
    Difference,
    Settlement,
    SettlementDifference,
    SettlementPending,
    SettlementPosted,
    SettlementReversed,
    Split,
    State,
    claim_of,
    coverage_of,
    reason_of,
    settle_again,
    standing_of,
)
from lianzhen_protocol.settling import rule_book
from lianzhen_protocol.sheets import means

from . import ledger


def stated(page: HubPage, _record: Record, body: CoverageStated) -> None:
    """Insurance as a clinic read it; the last reading counts, whoever read it."""
    known = page.get(Coverage, body.patient_id)
    if known is None or known.stated_ms <= body.stated_ms:
        page.put(coverage_of(body))


def pending(page: HubPage, _record: Record, claim: SettlementPending) -> None:
    """Post a claim, once: asked again in whatever record, it is answered again and no more."""
    known = page.get(Settlement, claim.claim_id)
    if known is not None:
        if known.claim != claim or known.node != page.node:
            raise RecordError("this claim was made with other words", code="settlement-id-reused")
        answer(page, known)
        return
    if not claim.split.conserves():
        raise RecordError("who pays is not what it costs", code="settlement-malformed")
    if (other := claim_of(page, claim.consultation_id)) is not None:
        raise RecordError(
            f"this consultation was settled as claim {other.id}", code="settlement-twice"
        )
    _post(page, claim)


def _post(page: HubPage, claim: SettlementPending) -> None:
    rules = rule_book(page)
    if rules is None:
        raise RecordError("the hub has not read its rules yet", code="settlement-no-rules")
    year = year_of(claim.service_ms)
    standing = standing_of(page, claim.patient_id, claim.service_ms, year)
    hub, policy = settle_again(claim, rules.rules, standing)
    _enter(page, claim, hub)
    made = Settlement(
        claim=claim, node=page.node, state=State.POSTED, posted=hub, posted_ms=page.now_ms
    )
    if hub != claim.split:
        made = msgspec.structs.replace(made, state=State.DIFFERENCE)
        reason = reason_of(claim, hub, policy, standing)
        page.put(Difference(said=_difference(page, claim, hub, reason), node=page.node))
        page.notice("settlement-differs", f"claim {claim.claim_id}: {reason}", page.node)
    made = msgspec.structs.replace(
        made,
        posted_by_policy=policy.id if policy else "",
        posted_by_version=policy.version if policy else 0,
    )
    page.put(made)
    page.audit(page.node, "settle", f"patient/{claim.patient_id}")
    answer(page, made)


def _enter(page: HubPage, claim: SettlementPending, hub: Split) -> None:
    """Pending as the box said, made good, and beside it what the box had wrong."""
    held = postings.pending_of(claim, page.node, page.now_ms)
    ledger.enter(
        page.connection,
        [
            *held,
            *(about(each, Step.POST, page.now_ms) for each in held),
            *postings.difference_of(claim, page.node, hub, page.now_ms),
        ],
    )


def _difference(
    page: HubPage, claim: SettlementPending, hub: Split, reason: settlement.Reason
) -> SettlementDifference:
    return SettlementDifference(
        difference_id=page.new_id(),
        claim_id=claim.claim_id,
        patient_id=claim.patient_id,
        reason=reason,
        box=claim.split,
        hub=hub,
        found_ms=page.now_ms,
    )


def answer(page: HubPage, known: Settlement) -> None:
    """Tell the box what holds: posted, what differs, and that it was taken back."""
    if known.posted is not None and known.posted_ms is not None:
        posted = SettlementPosted(
            claim_id=known.id,
            split=known.posted,
            policy_id=known.posted_by_policy,
            policy_version=known.posted_by_version,
            posted_ms=known.posted_ms,
        )
        page.send(known.node, STREAM, posted)
    for each in page.find(Difference, owner=known.claim.patient_id):
        if each.said.claim_id == known.id:
            page.send(known.node, STREAM, each.said)
    if known.reversal is not None:
        page.send(known.node, STREAM, known.reversal)


MEANINGS: Final[Meanings] = dict(
    [
        means(CoverageStated, stated),
        means(SettlementPending, pending),
        means(SettlementPosted, misplaced),
        means(SettlementDifference, misplaced),
        means(SettlementReversed, misplaced),
    ]
)
