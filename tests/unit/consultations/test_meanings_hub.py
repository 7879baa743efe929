"""A box's events at the hub: ordered, or refused with a reason that goes down."""

import pytest

from lianzhen_protocol.consultation import (
    HUB,
    STREAM,
    Accepted,
    Cancelled,
    ConsultationOrdered,
    ConsultationRefused,
    Edited,
    Opened,
    OpinionWritten,
    Person,
    Refused,
    Started,
    State,
    Submitted,
)
from lianzhen_protocol.records import RecordRejected
from support.consultations import (
    CASE,
    DOCTOR,
    EXPERT,
    NODE,
    OPINION,
    TRIAGE,
    consent,
    draft,
    event_id,
    happens,
)
from unit.consultations.desk import Desk

OTHER_NODE = "n999999999999"


async def last(desk: Desk, node: str = NODE) -> object:
    return (await desk.down(STREAM, node))[-1]


async def test_what_stands_is_numbered_and_told(desk: Desk) -> None:
    await desk.pending()
    case = await desk.case()
    assert (case.state, case.confirmed, case.version) == (State.PENDING, State.PENDING, 2)
    assert await desk.down(STREAM) == [
        ConsultationOrdered(event=event, version=version)
        for version, event in enumerate(case.events, 1)
    ]


async def test_a_late_cancellation_is_refused_kept_and_told_twice(desk: Desk) -> None:
    """Once for the consultation's history, once for the item's state."""
    await desk.pending()
    for what in (Accepted(), Started(), OpinionWritten(opinion=OPINION)):
        await desk.happens(EXPERT, what)
    cancelled = happens(20, DOCTOR, Cancelled(reason="转院"))
    await desk.hears(cancelled)
    case = await desk.case()
    reason = "cancelled is not possible: the consultation is opinion"
    assert case.state is State.OPINION
    assert case.refused == (
        Refused(event=cancelled, code="illegal-transition", reason=reason, at_ms=desk.now_ms),
    )
    assert await last(desk) == ConsultationRefused(
        consultation=CASE, event_id=cancelled.id, code="illegal-transition", reason=reason
    )
    assert await desk.down("record.receipts") == [
        RecordRejected(
            record_id=bytes.fromhex(cancelled.id), code="illegal-transition", reason=reason
        )
    ]


async def test_an_event_that_comes_again_gets_the_same_answer(desk: Desk) -> None:
    await desk.pending()
    before = await desk.case()
    await desk.hears(happens(0, TRIAGE, draft()))
    assert await desk.case() == before
    assert await last(desk) == ConsultationOrdered(event=before.events[0], version=1)


@pytest.mark.parametrize("by", [EXPERT, HUB])
async def test_a_box_does_not_speak_for_experts_or_the_hub(desk: Desk, by: Person) -> None:
    await desk.pending()
    what = Accepted() if by is EXPERT else Opened(code="nobody-online")
    await desk.hears(happens(20, by, what))
    found = await last(desk)
    assert isinstance(found, ConsultationRefused)
    assert found.code == "not-allowed"
    assert (await desk.case()).state is State.PENDING


async def test_a_box_does_not_touch_another_clinics_consultation(desk: Desk) -> None:
    await desk.pending()
    before = await desk.case()
    await desk.hears(happens(20, DOCTOR, Cancelled(reason="x")), OTHER_NODE)
    assert await desk.case() == before
    answer = await last(desk, OTHER_NODE)
    assert isinstance(answer, ConsultationRefused)
    assert answer.code == "not-yours"
    assert isinstance(await last(desk), ConsultationOrdered)  # its own clinic hears nothing


async def test_a_box_does_not_draft_for_another(desk: Desk) -> None:
    await desk.hears(happens(0, DOCTOR, draft()), OTHER_NODE)
    answer = await last(desk, OTHER_NODE)
    assert isinstance(answer, ConsultationRefused)
    assert answer.code == "not-yours"


async def test_what_begins_nowhere_is_refused(desk: Desk) -> None:
    await desk.hears(happens(3, DOCTOR, Edited(complaint="x")))
    answer = await last(desk)
    assert isinstance(answer, ConsultationRefused)
    assert (answer.code, answer.event_id) == ("unknown-consultation", event_id(3))


async def test_pending_without_consent_is_refused_at_the_hub_too(desk: Desk) -> None:
    """The box is not believed: the hub judges by the same table."""
    await desk.hears(happens(0, TRIAGE, draft()))
    await desk.hears(happens(1, DOCTOR, Submitted(consent=consent(given_by=""))))
    answer = await last(desk)
    assert isinstance(answer, ConsultationRefused)
    assert answer.code == "consent-missing"
    assert (await desk.case()).state is State.DRAFT
