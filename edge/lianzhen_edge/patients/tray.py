"""Devices on patients, and the tray of what waits for its patient.

Called inside ``Journal.transact``; PatientError undoes the whole of it.
"""

from typing import Final

import msgspec

from lianzhen_edge.journal.book import Book
from lianzhen_protocol import bindings, joins, people
from lianzhen_protocol.bindings import Binding, DeviceBound, DeviceReleased
from lianzhen_protocol.errors import PatientError
from lianzhen_protocol.imaging import ImageStored
from lianzhen_protocol.joins import Claimed, Item, ItemJoined, ItemKind, ItemUnjoined, Join, Reason
from lianzhen_protocol.minutes import waiting_of_device
from lianzhen_protocol.people import STREAM, By, Patient

RULE: Final = "rule"
"""Actor of an audit row for what the box did by itself."""

BACK_MS: Final = 86_400_000
"""How far back a binding may be dated."""


# -- what arrives


def study_item(node: str, image: ImageStored, title: str) -> Item:
    """The study of an image, as it comes from the modality with that AE title."""
    sent = image.sent
    return Item(
        id=image.study,
        node=node,
        kind=ItemKind.STUDY,
        uid=image.study_uid,
        device=title,
        label=" ".join(filter(None, (image.modality, image.study_description)))[:64],
        claimed=Claimed.read(sent.patient_id, sent.name, sent.birth_date, sent.sex),
        from_ms=image.received_ms,
        to_ms=image.received_ms,
    )


def study_arrived(book: Book, study: Item) -> str:
    """A study, with each image that came: whose it is by the rule, or "" and it waits.

    ``study`` is an item of kind study without reason and join. What was decided stays decided.
    """
    known = book.get(Item, study.id)
    if known is not None and known.join is not None:
        return known.join.patient
    if known is not None:
        book.put(msgspec.structs.replace(known, to_ms=max(known.to_ms, study.to_ms)))
        return ""
    return _match(book, study)


def look_again(book: Book, by: By, patient: Patient) -> None:
    """After a correction: what contradicts the patient waits, what fits now joins by the rule."""
    for item in book.find(Item, owner=patient.id):
        if item.join is None or item.join.by.account or item.kind is not ItemKind.STUDY:
            continue
        if doubt := joins.doubt(item.claimed, patient):
            body = ItemUnjoined(id=item.id, by=by, why="patient corrected", reason=doubt)
            book.audit(RULE, "sever", f"item/{item.id}")  # while it is still the patient's
            book.write(STREAM, body)
    for item in joins.tray(book):
        if item.kind is ItemKind.STUDY and item.reason is not Reason.TAKEN_OUT:
            _match(book, item)


def _match(book: Book, study: Item) -> str:
    found = joins.match_study(book, study.claimed, book.node)
    if not found.patient:
        book.put(msgspec.structs.replace(study, reason=found.reason))
        return ""
    join = Join(patient=found.patient, by=By(), at_ms=book.now_ms)
    book.write(STREAM, ItemJoined(item=msgspec.structs.replace(study, reason=None, join=join)))
    book.audit(RULE, "join", f"item/{study.id}")
    return found.patient


# -- what people do


def join(book: Book, by: By, item_id: str, patient_id: str, why: str) -> Item:
    """The item is that patient's; whoever calls has had two identifiers confirmed."""
    item = book.get(Item, item_id)
    if item is None:
        raise PatientError("there is no such item", code="item-unknown")
    made = Join(patient=patient_id, by=by, at_ms=book.now_ms, why=why)
    joined = msgspec.structs.replace(item, join=made)
    if item.join is not None:
        raise PatientError("it is joined already: undo that first", code="join-twice")
    book.write(STREAM, ItemJoined(item=joined))
    book.audit(by.account, "join", f"item/{item_id}")
    return joined


def unjoin(book: Book, by: By, item_id: str, why: str) -> None:
    """The join was wrong: the item waits again."""
    book.audit(by.account, "sever", f"item/{item_id}")  # while it is still the patient's
    book.write(STREAM, ItemUnjoined(id=item_id, by=by, why=why))


def bind(book: Book, by: By, device: str, patient_id: str, from_ms: int | None = None) -> str:
    """The patient wears the device from now on, or from a moment of the last day; its id."""
    start = book.now_ms if from_ms is None else from_ms
    if not book.now_ms - BACK_MS <= start <= book.now_ms:
        raise PatientError("a binding begins within the last 24 hours", code="binding-time")
    if people.known_patient(book, patient_id).linked_to:
        raise PatientError("bind it to the patient that this one was linked to", code="link-twice")
    identity = book.new_id()
    body = DeviceBound(id=identity, device=device, patient=patient_id, from_ms=start, by=by)
    book.write(STREAM, body)
    book.audit(by.account, "bind", f"binding/{identity}")
    return identity


def release(
    book: Book, by: By, binding_id: str, to_ms: int | None = None, why: str = ""
) -> Binding:
    """They wore it until now, or until a moment before; later readings wait in the tray."""
    binding = book.get(Binding, binding_id)
    if binding is None:
        raise PatientError("there is no such binding", code="binding-unknown")
    end = min(binding.end_ms, max(book.now_ms, binding.from_ms)) if to_ms is None else to_ms
    if to_ms is not None and to_ms > book.now_ms:
        raise PatientError("a binding does not end in the future", code="binding-end")
    book.write(STREAM, DeviceReleased(id=binding_id, to_ms=end, by=by, why=why))
    book.audit(by.account, "unbind", f"binding/{binding_id}")
    device, cut = binding.device, Reason.BINDING_CUT
    for at_ms in waiting_of_device(book, book.node, device, end, binding.end_ms):
        joins.wait_reading(book, book.node, device, at_ms, book.new_id(), cut)
    return book.get(Binding, binding_id) or binding


def worn_now(book: Book, device: str) -> Binding | None:
    """The open binding of a device."""
    found = bindings.of_device(book, book.node, device)
    return next((each for each in found if each.to_ms is None), None)
