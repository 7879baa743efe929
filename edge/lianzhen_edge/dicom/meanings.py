"""What records about images do to the box's sheets."""

from typing import Final

from lianzhen_edge.journal.book import Meanings, Origin, Page
from lianzhen_protocol import imaging, orders
from lianzhen_protocol.errors import RecordError
from lianzhen_protocol.imaging import (
    ImageReceived,
    ImageStored,
    ScannerAdmitted,
    ScannerRemoved,
    ScannerSet,
    StudySeen,
)
from lianzhen_protocol.key_images import ImageKeyed, Side, keyed
from lianzhen_protocol.orders import OrderCancelled, OrderPlaced, StepBegun, StepChanged
from lianzhen_protocol.records import Body, Record

from . import waiting


def apply(page: Page, record: Record, body: Body) -> None:
    """One record; RecordError for what the other side has no business to say."""
    match page.origin, body:
        case Origin.HERE, ImageStored():
            imaging.check_names(page.node, body)
            waiting.stored(page, body)
            orders.image_came(page, page.node, body)
        case Origin.HUB, ImageReceived():
            waiting.received(page, body)
        case Origin.HUB, StudySeen():
            imaging.seen(page, body)
        case origin, ImageKeyed():
            keyed(page, Side.CLINIC if origin is Origin.HERE else Side.CENTRE, body)
        case Origin.HERE, ScannerAdmitted():
            imaging.admitted(page, page.node, body)
        case Origin.HERE, ScannerRemoved():
            imaging.removed(page, body)
        case Origin.HERE, ScannerSet():
            imaging.changed(page, body)
        case Origin.HERE, OrderPlaced():
            orders.placed(page, page.node, body, record.created_ms)
        case Origin.HERE, OrderCancelled():
            orders.cancelled(page, page.node, body)
        case Origin.HERE, StepBegun():
            orders.begun(page, page.node, body, record.created_ms)
        case Origin.HERE, StepChanged():
            orders.changed(page, page.node, body)
        case _:
            raise RecordError(f"{record.kind} is not said this way", code="record-misplaced")


MEANINGS: Final[Meanings] = dict.fromkeys(
    (
        *(ImageStored, ImageReceived, ImageKeyed, StudySeen),
        *(ScannerAdmitted, ScannerRemoved, ScannerSet),
        *(OrderPlaced, OrderCancelled, StepBegun, StepChanged),
    ),
    apply,
)
