"""What people at the clinic do is shown at once, waits for the hub, and survives the program."""

import itertools
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TypeVar

import pytest

from lianzhen_edge.consultations import desk
from lianzhen_edge.consultations.completion import OpinionMissing
from lianzhen_edge.consultations.meanings import MEANINGS
from lianzhen_edge.journal.book import Book
from lianzhen_edge.journal.journal import Journal
from lianzhen_protocol import kinds
from lianzhen_protocol.accounts import Actor, Role
from lianzhen_protocol.consultation import (
    STREAM,
    Accepted,
    Cancelled,
    Completed,
    Consultation,
    ConsultationEvent,
    ConsultationOrdered,
    ConsultationRefused,
    Drafted,
    Edited,
    Event,
    Happened,
    Person,
    Signed,
    State,
    Submitted,
    Who,
)
from lianzhen_protocol.errors import RecordError
from lianzhen_protocol.frame import Frame
from lianzhen_protocol.identity import Epoch, NodeId
from lianzhen_protocol.receiver import Accepted as Taken
from lianzhen_protocol.receiver import receive
from lianzhen_protocol.records import Body
from lianzhen_runtime.keys import FileKeys
from support.consultations import (
    DOCTOR,
    EXPERT,
    NODE,
    NOW,
    NURSE,
    OPINION,
    PATIENT,
    STORY,
    consent,
    draft,
    event_id,
)
from support.lab_fixtures import note

HUB_EPOCH = Epoch(b"h" * 16)
Result = TypeVar("Result")


class Clinic:
    """A journal with the meanings of consultations, and a hub that we play."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.numbers = itertools.count(1000)

    async def open(self) -> None:
        keys = FileKeys(self.folder / "keys")
        self.journal = await Journal.open(
            self.folder / "journal.db", NodeId(NODE), keys, lambda: NOW, meanings=MEANINGS
        )

    async def work(self, work: Callable[[Book], Result]) -> Result:
        return await self.journal.transact(work)

    async def do(self, case: Consultation, by: Person, what: Happened) -> Consultation:
        return await self.work(lambda book: desk.do(book, case.id, by, what))

    async def draft(self) -> Consultation:
        return await self.work(lambda book: desk.draft(book, NURSE, draft()))

    async def down(self, *bodies: Body) -> None:
        """The hub's words, in the order of its stream."""
        mark = self.journal.down_mark(HUB_EPOCH, STREAM)
        batch = tuple(kinds.encode(body, note().id, NOW) for body in bodies)
        verdict = receive(mark, Frame(HUB_EPOCH, STREAM, mark.seq + 1, mark.hash, batch))
        assert isinstance(verdict, Taken)
        await self.journal.receive(HUB_EPOCH, STREAM, verdict)

    async def hub_orders(self, case: Consultation, by: Person, what: Happened) -> None:
        """An event of the hub's side, as the next number."""
        identity = event_id(next(self.numbers))
        event = Event(id=identity, consultation=case.id, by=by, at_ms=NOW, what=what)
        version = self.case(case.id).version + 1
        await self.down(ConsultationOrdered(event=event, version=version))

    async def hub_agrees(self, case: Consultation) -> None:
        """Everything that waits stands."""
        shown = self.case(case.id)
        for number, event in enumerate(shown.waiting, shown.version + 1):
            await self.down(ConsultationOrdered(event=event, version=number))

    def case(self, identity: str) -> Consultation:
        found = self.journal.sheets.get(Consultation, identity)
        assert found
        return found


@pytest.fixture
async def clinic(tmp_path: Path) -> AsyncIterator[Clinic]:
    made = Clinic(tmp_path)
    await made.open()
    yield made
    await made.journal.close()


async def signed(clinic: Clinic) -> Consultation:
    """A consultation that the hub has brought to its signed opinion."""
    case = await clinic.draft()
    await clinic.do(case, DOCTOR, Submitted(consent=consent()))
    await clinic.hub_agrees(case)
    for by, what in STORY[2:]:
        await clinic.hub_orders(case, by, what)
    return clinic.case(case.id)


async def test_a_request_is_one_record_an_event_a_sheet_that_survives(clinic: Clinic) -> None:
    case = await clinic.draft()
    asked = await clinic.do(case, DOCTOR, Submitted(consent=consent()))
    assert (asked.state, asked.confirmed, len(asked.waiting)) == (State.PENDING, None, 2)
    (stream,) = [s for s in clinic.journal.stream_states() if s.stream == STREAM]
    assert stream.last == 2
    for event in asked.waiting:  # the event's id is the record's: its item state can be asked for
        item = clinic.journal.item(desk.record_of(event), lambda _: 0)
        assert item
        assert item.state == "stored"
    await clinic.journal.close()
    await clinic.open()
    assert clinic.case(case.id) == asked


async def test_the_hubs_order_confirms_what_waited(clinic: Clinic) -> None:
    case = await signed(clinic)
    assert (case.state, case.confirmed, case.waiting) == (State.SIGNED, State.SIGNED, ())
    assert (case.doctor, case.expert, case.opinion) == (DOCTOR, EXPERT, OPINION)
    assert case.version == len(STORY)


async def test_a_refusal_comes_back_with_its_reason_and_is_shown(clinic: Clinic) -> None:
    case = await clinic.draft()
    await clinic.do(case, DOCTOR, Submitted(consent=consent()))
    await clinic.hub_agrees(case)
    cancelled = await clinic.do(case, DOCTOR, Cancelled(reason="转院"))
    (event,) = cancelled.waiting
    for by, what in STORY[2:6]:
        await clinic.hub_orders(case, by, what)
    reason = "cancelled is not possible: the consultation is opinion"
    answer = ConsultationRefused(
        consultation=case.id, event_id=event.id, code="illegal-transition", reason=reason
    )
    await clinic.down(answer, answer)
    shown = clinic.case(case.id)
    assert (shown.state, shown.waiting) == (State.OPINION, ())
    (refused,) = shown.refused
    assert (refused.event, refused.code, refused.reason) == (event, answer.code, reason)


async def test_what_is_not_possible_here_writes_no_record(clinic: Clinic) -> None:
    case = await clinic.draft()
    with pytest.raises(desk.NotPossible) as caught:
        await clinic.do(case, NURSE, Submitted(consent=consent()))
    assert (caught.value.code, caught.value.http_status) == ("not-allowed", 409)
    with pytest.raises(desk.NotPossible):
        await clinic.do(case, DOCTOR, Completed(opinion=OPINION.id))
    (stream,) = [s for s in clinic.journal.stream_states() if s.stream == STREAM]
    assert stream.last == 1


async def test_records_that_come_from_the_wrong_side_do_nothing(clinic: Clinic) -> None:
    case = await clinic.draft()
    event = Event(
        id=event_id(1), consultation=case.id, by=DOCTOR, at_ms=NOW, what=Edited(complaint="x")
    )
    await clinic.down(ConsultationEvent(event=event))
    assert clinic.journal.held() == 1
    with pytest.raises(RecordError) as caught:
        await clinic.work(
            lambda book: book.write(STREAM, ConsultationOrdered(event=event, version=1))
        )
    assert caught.value.code == "record-misplaced"
    assert clinic.case(case.id) == case


async def test_what_this_release_cannot_follow_is_kept(clinic: Clinic) -> None:
    case = await clinic.draft()
    await clinic.hub_orders(case, EXPERT, Signed(opinion=OPINION))
    assert clinic.journal.held() == 1
    assert clinic.case(case.id) == case


async def test_triage_drafts_once_and_never_beside_an_open_request(clinic: Clinic) -> None:
    def propose(level: int) -> Callable[[Book], str]:
        return lambda book: desk.draft_by_triage(book, NODE, PATIENT, level, "t-1")

    identity = await clinic.work(propose(2))
    assert await clinic.work(propose(1)) == identity
    case = clinic.case(identity)
    assert (case.state, case.acuity, case.triage) == (State.DRAFT, 1, "t-1")
    assert {event.by.who for event in case.waiting} == {Who.TRIAGE}
    await clinic.do(case, DOCTOR, Edited(complaint="胸痛", department="03.04"))
    await clinic.do(case, DOCTOR, Submitted(consent=consent()))
    assert await clinic.work(propose(2)) == ""
    await clinic.do(case, DOCTOR, Cancelled(reason="好转"))
    assert await clinic.work(propose(2)) not in ("", identity)


async def test_completion_and_what_follows_are_one_commit_and_once(clinic: Clinic) -> None:
    case = await signed(clinic)
    followed: list[str] = []

    def fails(_book: Book, _case: Consultation) -> None:
        raise ZeroDivisionError

    def follows(book: Book, done: Consultation) -> None:
        followed.append(done.id)
        begin = Drafted(node=NODE, patient_id=PATIENT, complaint="in the same commit")
        desk.draft(book, NURSE, begin)

    with pytest.raises(ZeroDivisionError):
        await clinic.work(
            lambda book: desk.complete(book, case.id, DOCTOR, OPINION.id, (), (fails,))
        )
    assert clinic.case(case.id) == case
    done = await clinic.work(
        lambda book: desk.complete(book, case.id, DOCTOR, OPINION.id, (), (follows,))
    )
    assert (done.state, done.completed_ms, followed) == (State.COMPLETED, NOW, [case.id])
    assert len(clinic.journal.sheets.find(Consultation)) == 2


async def test_an_opinion_that_has_not_arrived_is_not_read(clinic: Clinic) -> None:
    case = await signed(clinic)
    with pytest.raises(OpinionMissing):
        await clinic.work(lambda book: desk.complete(book, case.id, DOCTOR, OPINION.id))
    assert clinic.case(case.id) == case


async def test_an_expert_declines_nothing_here(clinic: Clinic) -> None:
    case = await clinic.draft()
    with pytest.raises(desk.NotPossible):
        await clinic.do(case, EXPERT, Accepted())


def test_a_doctor_who_is_a_nurse_too_acts_as_a_doctor() -> None:
    roles = frozenset({Role.DOCTOR, Role.NURSE})
    both = Actor(id="a", login="wang", name="王", roles=roles)
    assert desk.person_of(both).who is Who.DOCTOR
    nurse = Actor(id="b", login="li", name="李", roles=frozenset({Role.NURSE}))
    assert desk.person_of(nurse).who is Who.NURSE


async def test_an_unknown_consultation_says_so(clinic: Clinic) -> None:
    with pytest.raises(desk.NoSuchConsultation):
        desk.known(clinic.journal.sheets, "f" * 32)
