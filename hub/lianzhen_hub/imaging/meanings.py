"""What a box's records about images do at the hub."""

from typing import Final

from lianzhen_hub.page import HubPage, Meanings, misplaced
from lianzhen_protocol import imaging, orders
from lianzhen_protocol.imaging import (
    SAFE,
    ImageReceived,
    ImageStored,
    Instance,
    ScannerAdmitted,
    ScannerRemoved,
    ScannerSet,
    Study,
    StudySeen,
)
from lianzhen_protocol.joins import patient_of
from lianzhen_protocol.key_images import ImageKeyed, Side, keyed
from lianzhen_protocol.orders import OrderCancelled, OrderPlaced, StepBegun, StepChanged
from lianzhen_protocol.records import Body, Record

from .unsafe import ImageUnsafe


def apply(page: HubPage, record: Record, body: Body) -> None:
    """One record of a box; RecordError for what only the hub may say."""
    match body:
        case ImageStored():
            imaging.check_names(page.node, body)
            if not imaging.stored(page, page.node, body, patient_of(page, body.study)):
                _again(page, body.instance)
            orders.image_came(page, page.node, body)
        case ScannerAdmitted():
            imaging.admitted(page, page.node, body)
        case ScannerRemoved():
            imaging.removed(page, body)
        case ScannerSet():
            imaging.changed(page, body)
        case ImageKeyed():
            keyed(page, Side.CLINIC, body)
        case _:
            misplaced(page, record, body)


def of_orders(page: HubPage, record: Record, body: Body) -> None:
    """What a clinic ordered, and what its modalities say that they have done."""
    match body:
        case OrderPlaced():
            orders.placed(page, page.node, body, record.created_ms)
        case OrderCancelled():
            orders.cancelled(page, page.node, body)
        case StepBegun():
            orders.begun(page, page.node, body, record.created_ms)
        case StepChanged():
            orders.changed(page, page.node, body)
        case _:
            misplaced(page, record, body)


def _again(page: HubPage, key: str) -> None:
    """A box whose journal was lost says what it said before: it lost the receipt as well."""
    known = page.get(Instance, key)
    if known is not None and known.state == SAFE:
        receipt(page, known)


def receipt(page: HubPage, instance: Instance) -> None:
    """Tell the box that the hub has an image, whole and durable; not before a backup has it,
    where that is what counts.
    """
    if page.get(ImageUnsafe, instance.id) is not None:
        return
    body = ImageReceived(
        instance=instance.id, sha256=instance.sha256, received_ms=instance.received_ms
    )
    page.send(instance.node, imaging.STREAM, body)


def seen(page: HubPage, study: Study, by: str) -> None:
    """An expert looks at a study: its box learns how much of it was there to be seen."""
    if not study.received:
        return  # an announcement is no image
    body = StudySeen(study=study.id, seen_by=by[:400], seen_ms=page.now_ms, images=study.received)
    if imaging.seen(page, body):
        page.send(study.node, imaging.STREAM, body)


def mark(page: HubPage, instance: Instance, body: ImageKeyed) -> None:
    """An expert marks a frame, or takes the mark off: its box learns it in the same commit."""
    if keyed(page, Side.CENTRE, body):
        page.send(instance.node, imaging.STREAM, body)
        page.audit(body.by, "change", f"{Instance.SHEET}/{instance.id}")


_OF_IMAGES: Final = (
    *(ImageStored, ImageReceived, ImageKeyed, StudySeen),
    *(ScannerAdmitted, ScannerRemoved, ScannerSet),
)
_OF_ORDERS: Final = (OrderPlaced, OrderCancelled, StepBegun, StepChanged)

MEANINGS: Final[Meanings] = {
    **dict.fromkeys(_OF_IMAGES, apply),
    **dict.fromkeys(_OF_ORDERS, of_orders),
}
