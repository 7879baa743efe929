"""What opinions and revocation lists do to the box's sheets: they arrive, and are judged next.

A record's meaning is pure and knows no CA; ``keeper`` judges what lies here, before anybody is
shown it, and again whenever a list arrives.
"""

from typing import ClassVar, Final

from lianzhen_edge.journal.book import Meanings, Origin, Page
from lianzhen_protocol.errors import DocumentError, RecordError
from lianzhen_protocol.opinion import OpinionSigned, TrustRevocations
from lianzhen_protocol.opinion_sheets import arrive
from lianzhen_protocol.records import Record
from lianzhen_protocol.sheets import Index, Sheet, means


class ArrivedList(Sheet, frozen=True):
    """The newest revocation list that came, not looked at yet."""

    SHEET: ClassVar[str] = "arrived-list"
    KEY: ClassVar[str] = "opinion-signers"

    revocations: bytes

    def index(self) -> Index:
        """There is one."""
        return Index(self.KEY)


def opinion(page: Page, record: Record, body: OpinionSigned) -> None:
    """RecordError for what is no opinion, or another one under a known id."""
    page.only_from(Origin.HUB, record)
    try:
        arrive(page, body, page.now_ms)
    except DocumentError as error:
        raise RecordError(str(error), code=error.code) from error


def revocations(page: Page, record: Record, body: TrustRevocations) -> None:
    """RecordError where a box says so."""
    page.only_from(Origin.HUB, record)
    page.put(ArrivedList(revocations=body.revocations))


MEANINGS: Final[Meanings] = dict(
    [means(OpinionSigned, opinion), means(TrustRevocations, revocations)]
)
