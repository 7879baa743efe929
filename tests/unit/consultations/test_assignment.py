"""Who is asked, until when, and what happens when nobody answers or nobody is there."""

import msgspec
import pytest
from sqlalchemy import Connection, select

from lianzhen_hub.consultations import assignment
from lianzhen_hub.consultations.history import NotPossible
from lianzhen_hub.store import tables
from lianzhen_protocol.consultation import (
    STREAM,
    Accepted,
    ConsultationOrdered,
    Declined,
    Drafted,
    Happened,
    Person,
    State,
    Submitted,
    Who,
)
from lianzhen_protocol.matching import Title
from support.consultations import (
    CASE,
    DOCTOR,
    NODE,
    NURSE,
    PATIENT,
    consent,
    draft,
    event_id,
    happens,
)
from unit.consultations.desk import ACCEPT_MS, Desk, expert


def person(identity: str) -> Person:
    return Person(id=identity, name=f"专家{identity}", who=Who.EXPERT)


async def told(desk: Desk) -> list[str]:
    """What went down to the clinic, by name, in order."""
    found = await desk.down(STREAM)
    assert all(isinstance(each, ConsultationOrdered) for each in found)
    ordered = [each for each in found if isinstance(each, ConsultationOrdered)]
    assert [each.version for each in ordered] == list(range(1, len(ordered) + 1))
    return [str(type(each.event.what).__struct_config__.tag) for each in ordered]


async def notices(desk: Desk) -> list[tuple[str, str | None]]:
    def read(db: Connection) -> list[tuple[str, str | None]]:
        rows = db.execute(select(tables.notice.c.code, tables.notice.c.node))
        return [(row.code, row.node) for row in rows]

    return await desk.database.read(read)


async def test_the_best_who_is_there_is_asked_with_a_deadline_and_a_reason(desk: Desk) -> None:
    await desk.experts(expert("resident", title=Title.RESIDENT), expert("chief"))
    await desk.experts(expert("away"), online=False)
    await desk.pending()
    await desk.step()
    case = await desk.case()
    assert (case.state, case.expert) == (State.ASSIGNED, person("chief"))
    assert case.deadline_ms == desk.now_ms + ACCEPT_MS
    assert case.match
    assert case.match.expert == "chief"
    assert {factor.name for factor in case.match.factors} >= {"specialty", "free"}
    assert await told(desk) == ["drafted", "submitted", "assigned"]


async def test_a_draft_is_nobodys_business(desk: Desk) -> None:
    await desk.experts(expert("chief"))
    await desk.hears(happens(0, NURSE, draft()))
    await desk.step()
    assert (await desk.case()).state is State.DRAFT


async def test_not_accepted_in_time_it_goes_to_the_next_and_nobody_is_asked_twice(
    desk: Desk,
) -> None:
    await desk.experts(expert("a"), expert("b"))
    await desk.pending()
    asked = []
    for _ in range(2):
        await desk.step()
        case = await desk.case()
        assert case.expert
        asked.append(case.expert.id)
        desk.now_ms += ACCEPT_MS - 1
        await desk.step()
        assert (await desk.case()).expert == case.expert  # not before the time is over
        desk.now_ms += 1
    await desk.step()
    case = await desk.case()
    assert asked == ["a", "b"]
    assert (case.state, case.waits) == (State.PENDING, "all-asked")
    again = ["assigned", "expired", "assigned", "expired", "opened"]
    assert await told(desk) == ["drafted", "submitted", *again]


async def test_a_deadline_survives_the_hub(desk: Desk) -> None:
    """It lies in the sheets: whoever looks later, with no memory of it, acts on it."""
    await desk.experts(expert("a"), expert("b"))
    await desk.pending()
    await desk.step()
    deadline = await desk.work(assignment.next_deadline)
    assert deadline == desk.now_ms + ACCEPT_MS
    desk.now_ms += 60 * ACCEPT_MS  # the hub was away
    await desk.step()
    case = await desk.case()
    assert case.expert == person("b")
    assert case.deadline_ms == desk.now_ms + ACCEPT_MS


async def test_who_declines_is_not_asked_again_and_the_next_is_asked_at_once(desk: Desk) -> None:
    await desk.experts(expert("a"), expert("b"))
    await desk.pending()
    await desk.step()
    await desk.happens(person("a"), Declined(reason="在手术"))
    await desk.step()
    assert (await desk.case()).expert == person("b")


async def test_nobody_online_is_said_at_the_clinic_and_to_an_admin_until_somebody_comes(
    desk: Desk,
) -> None:
    await desk.experts(expert("a"), online=False)
    await desk.pending()
    await desk.step()
    await desk.step()
    case = await desk.case()
    assert (case.state, case.waits) == (State.PENDING, "nobody-online")
    assert await told(desk) == ["drafted", "submitted", "opened"]
    assert await notices(desk) == [("nobody-online", NODE)]
    desk.online.add("a")
    await desk.step()
    case = await desk.case()
    assert (case.state, case.expert, case.waits) == (State.ASSIGNED, person("a"), "")


async def test_why_nobody_can_be_asked_is_the_nearest_reason(desk: Desk) -> None:
    await desk.pending()
    await desk.step()
    assert (await desk.case()).waits == "nobody-eligible"
    await desk.experts(expert("skin", departments=("13",)))
    await desk.step()
    assert (await desk.case()).waits == "nobody-eligible"
    await desk.experts(expert("away"), online=False)
    await desk.step()
    assert (await desk.case()).waits == "nobody-online"


async def test_an_open_case_may_be_taken_by_an_expert_who_fits(desk: Desk) -> None:
    await desk.pending()
    await desk.step()
    await desk.happens(person("late"), Accepted())
    await desk.step()
    case = await desk.case()
    assert (case.state, case.expert) == (State.ACCEPTED, person("late"))


async def test_the_gravest_case_is_placed_first_and_load_counts(desk: Desk) -> None:
    """One expert with room for one: the urgent case gets it, though it came last."""
    for number, acuity in ((1, 4), (2, None), (3, 1)):
        identity = f"{number:032x}"
        begin = Drafted(
            node=NODE, patient_id=PATIENT, complaint="胸痛", department="03.04", acuity=2
        )
        story: tuple[Happened, ...] = (begin, Submitted(consent=consent(), acuity=acuity))
        for step, what in enumerate(story):
            event = happens(number * 10 + step, DOCTOR, what)
            await desk.hears(msgspec.structs.replace(event, consultation=identity))
    await desk.experts(expert("only", capacity=1))
    await desk.step()
    states = {number: await desk.case(f"{number:032x}") for number in (1, 2, 3)}
    assert {n: (c.state, c.waits) for n, c in states.items()} == {
        1: (State.PENDING, "all-busy"),
        2: (State.PENDING, "all-busy"),
        3: (State.ASSIGNED, ""),
    }


async def test_what_is_not_possible_changes_nothing(desk: Desk) -> None:
    await desk.pending()
    before = await desk.case()
    with pytest.raises(NotPossible) as caught:
        await desk.happens(person("a"), Declined())
    assert (caught.value.code, caught.value.http_status) == ("illegal-transition", 409)
    assert await desk.case() == before
    assert await told(desk) == ["drafted", "submitted"]
    assert event_id(1) in [event.id for event in before.events]
    assert before.id == CASE
