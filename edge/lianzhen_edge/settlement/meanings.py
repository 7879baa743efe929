"""What records of money do on the box: own claims wait, the hub's figures count."""

from typing import Final

import msgspec

from lianzhen_edge.journal.book import Meanings, Origin, Page
from lianzhen_protocol.errors import RecordError
from lianzhen_protocol.records import Record
from lianzhen_protocol.settlement import (
    Coverage,
    CoverageStated,
    Difference,
    Settlement,
    SettlementDifference,
    SettlementPending,
    SettlementPosted,
    SettlementReversed,
    State,
    coverage_of,
)
from lianzhen_protocol.sheets import means


def stated(page: Page, record: Record, body: CoverageStated) -> None:
    """Insurance as read from the card; the last reading counts."""
    page.only_from(Origin.HERE, record)
    known = page.get(Coverage, body.patient_id)
    if known is None or known.stated_ms <= body.stated_ms:
        page.put(coverage_of(body))


def pending(page: Page, record: Record, body: SettlementPending) -> None:
    """A claim of this box."""
    page.only_from(Origin.HERE, record)
    page.put(Settlement(claim=body))


def posted(page: Page, record: Record, body: SettlementPosted) -> None:
    """The hub entered it."""
    known = _known(page, record, body.claim_id)
    state = State.POSTED if known.state is State.PENDING else known.state
    page.put(
        msgspec.structs.replace(
            known,
            state=state,
            posted=body.split,
            posted_ms=body.posted_ms,
            posted_by_policy=body.policy_id,
            posted_by_version=body.policy_version,
        )
    )


def differs(page: Page, record: Record, body: SettlementDifference) -> None:
    """The hub's figure is another: an entry of its own, and the claim says so."""
    known = _known(page, record, body.claim_id)
    page.put(Difference(said=body))
    if known.state is not State.REVERSED:
        page.put(msgspec.structs.replace(known, state=State.DIFFERENCE))


def reverse(page: Page, record: Record, body: SettlementReversed) -> None:
    """It was taken back."""
    known = _known(page, record, body.claim_id)
    page.put(msgspec.structs.replace(known, state=State.REVERSED, reversal=body))


def _known(page: Page, record: Record, claim_id: str) -> Settlement:
    page.only_from(Origin.HUB, record)
    found = page.get(Settlement, claim_id)
    if found is None:
        raise RecordError("the hub speaks of a claim that is not here", code="settlement-unknown")
    return found


MEANINGS: Final[Meanings] = dict(
    [
        means(CoverageStated, stated),
        means(SettlementPending, pending),
        means(SettlementPosted, posted),
        means(SettlementDifference, differs),
        means(SettlementReversed, reverse),
    ]
)
