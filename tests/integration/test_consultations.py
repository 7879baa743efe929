"""Consultations on real programs: asked at the clinic, judged, placed and taken at the hub.

One hub, one box with a line between them that can be cut, two experts at their consoles.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

import expert as browser
from lab import BoxProgram, HubProgram, Lab, Postgres, wait_until
from lianzhen_protocol.accounts import Role
from line import Line
from support.consoles import Caller, People, Person, clinic_people, enter, hub_people
from support.lab_fixtures import dial
from support.patients import registered

ACCEPT_SECONDS = 5


class World(NamedTuple):
    """Everybody and everything."""

    hub: HubProgram
    box: BoxProgram
    line: Line
    doctor: Person
    nurse: Person
    admin: Person
    experts: tuple[Person, Person]
    patient: str

    def ask(self, **changes: object) -> str:
        """The doctor asks cardiology about the patient; the consultation's id."""
        wanted = {
            "complaint": "胸痛两小时",
            "department": "03.04",
            "ask": True,
            "consent": True,
            "consent_given_by": "张三",
        }
        path = f"/patients/{self.patient}/consultations"
        reply = self.doctor.caller.post(path, wanted | changes)
        assert reply.status == 200, reply
        return str(reply.body["id"])

    def at_clinic(self, case: str) -> dict[str, Any]:
        """The consultation as the clinic sees it."""
        found = self.doctor.caller.get(f"/consultations/{case}").body["case"]
        assert isinstance(found, dict)
        return found

    def seen_by(self, case: str) -> set[str | None]:
        """Who at the hub has looked at what the clinic did."""
        own = self.doctor.caller.get(f"/consultations/{case}").body["own"]
        return {each["item"]["seen_by"] for each in own}

    def cancel(self, case: str) -> None:
        """The doctor takes it back."""
        reply = self.doctor.caller.post(f"/consultations/{case}/cancel", {"reason": "好转"})
        assert reply.status == 200, reply


def inbox(expert: Person) -> dict[str, Any]:
    """Asking for it also says that the expert is there."""
    found = expert.caller.get("/inbox").body["inbox"]
    assert isinstance(found, dict)
    return found


def listed(expert: Person, part: str) -> list[str]:
    """Ids in one part of the inbox."""
    return [row["id"] for row in inbox(expert)[part]]


def rows_of(expert: Person) -> dict[str, dict[str, Any]]:
    """What the expert may take, asked or not."""
    found = inbox(expert)
    return {row["id"]: row for row in found["asked"] + found["open"]}


def profile(world_admin: Person, expert: Person, **changes: object) -> None:
    """An admin says what an expert may be asked."""
    wanted: dict[str, object] = {"title": "chief", "departments": ["03.04"]}
    reply = world_admin.caller.post(f"/experts/{expert.id}", wanted | changes)
    assert reply.status == 200, reply


@pytest.fixture(scope="module")
def world(place: Lab, postgres: Postgres) -> Iterator[World]:
    """The hub keeps its tables in PostgreSQL here; pages of browser tests come from SQLite."""
    postgres.empty()
    hub = place.hub(database=postgres.url, accept_seconds=ACCEPT_SECONDS).start().wait()
    box = place.box().start()
    box.enrol(hub)
    line = Line(hub.mqtt_port)
    box.stop()
    dial(box, line.port)
    box.start().wait()
    clinic, people = clinic_people(box), hub_people(hub)
    experts = tuple(_expert(people, name) for name in ("chen", "liu"))
    found = World(
        hub,
        box,
        line,
        clinic.of(Role.DOCTOR),
        clinic.of(Role.NURSE),
        people.of(Role.ADMIN),
        (experts[0], experts[1]),
        registered(clinic),
    )
    yield found
    line.close()


def _expert(people: People, name: str) -> Person:
    return enter(people.port, people.make(name, Role.EXPERT), second=True)


class Feed:
    """An open page: the stream of a console, read beside the test."""

    def __init__(self, caller: Caller) -> None:
        context = ssl._create_unverified_context()
        self._connection = http.client.HTTPSConnection(
            "127.0.0.1", caller.port, context=context, timeout=60
        )
        cookie = "; ".join(f"{name}={text}" for name, text in caller.cookies.items())
        self._connection.request("GET", "/live", headers={"Cookie": cookie})
        self._answer = self._connection.getresponse()
        assert self._answer.status == 200
        self.heard: list[tuple[float, str]] = []
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        try:
            while line := self._answer.readline():
                if line.startswith(b"event: "):
                    self.heard.append((time.monotonic(), line[7:].strip().decode()))
        except (OSError, ValueError, http.client.HTTPException, AttributeError):
            return  # it was closed

    def close(self) -> None:
        """The page is closed."""
        with contextlib.suppress(OSError):  # the hub died before
            self._connection.sock.shutdown(socket.SHUT_RDWR)
        self._thread.join(60)
        self._connection.close()


def test_nobody_is_there_and_the_clinic_and_an_admin_are_told(world: World) -> None:
    case = world.ask()
    profile(world.admin, world.experts[0])
    wait_until(
        "the clinic sees that nobody is online",
        lambda: world.at_clinic(case)["waits"] == "nobody-online",
    )
    notices = world.hub.json("notices")
    assert "nobody-online" in {notice["code"] for notice in notices}
    world.cancel(case)
    wait_until("the hub agrees", lambda: world.at_clinic(case)["waiting"] == [])


def test_a_nurse_drafts_and_only_a_doctor_asks(world: World) -> None:
    path = f"/patients/{world.patient}/consultations"
    wanted = {"complaint": "胸痛", "department": "03.04", "ask": True, "consent": True}
    refused = world.nurse.caller.post(path, wanted | {"consent_given_by": "张三"})
    assert (refused.status, refused.body["code"]) == (409, "not-allowed")
    draft = world.nurse.caller.post(path, wanted | {"ask": False}).body["id"]
    assert world.at_clinic(draft)["state"] == "draft"
    no_consent = world.doctor.caller.post(f"/consultations/{draft}", wanted | {"consent": False})
    assert (no_consent.status, no_consent.body["code"]) == (422, "consent-missing")
    assert world.at_clinic(draft)["state"] == "draft"
    world.cancel(draft)


def test_a_case_is_in_the_inbox_within_two_seconds_and_moves_on_when_nobody_accepts(
    world: World,
) -> None:
    first, second = world.experts
    profile(world.admin, first)
    profile(world.admin, second, title="resident")
    feed, other = Feed(first.caller), Feed(second.caller)  # their pages are open: both are there
    try:
        asked_at = time.monotonic()
        case = world.ask()
        took = wait_until("the case is in the inbox", lambda: case in listed(first, "asked"))
        heard = [when for when, kind in feed.heard if kind == "consultation" and when > asked_at]
        assert took < 2.0
        assert heard[0] - asked_at < 2.0
        seen = first.caller.get(f"/cases/{case}").body
        assert (seen["case"]["complaint"], seen["patient"]["name"]) == ("胸痛两小时", "张三")
        assert {each["name"] for each in seen["case"]["match"]["factors"]} >= {"title", "free"}
        assert second.caller.get(f"/cases/{case}").status == 404

        wait_until("it moves on", lambda: case in listed(second, "asked"))
        assert time.monotonic() - asked_at >= ACCEPT_SECONDS
        gone = [first.caller.get(f"/cases/{case}"), first.caller.post(f"/cases/{case}/start")]
        assert [reply.status for reply in gone] == [404, 404]

        taken = {"once": "twice in a moment"}
        both = [second.caller.post(f"/cases/{case}/accept", taken) for _ in range(2)]
        assert [reply.status for reply in both] == [200, 200]
        assert second.caller.post(f"/cases/{case}/start").status == 200
        wait_until(
            "the clinic sees it", lambda: world.at_clinic(case)["confirmed"] == "in-progress"
        )
        shown = world.at_clinic(case)
        assert shown["expert"]["name"] == "测试liu"
        happened = [event["what"]["what"] for event in shown["events"]]
        assert happened == [
            "drafted", "edited", "submitted", "assigned", "expired", "assigned", "accepted",
            "started",
        ]  # fmt: skip
    finally:
        feed.close()
        other.close()
    world.cancel(case)


def test_a_request_goes_on_with_the_draft_of_triage_and_takes_its_level(
    world: World,
) -> None:
    triage = f"/patients/{world.patient}/triage"
    suggestion = world.nurse.caller.post(triage).body["id"]
    decision = {"verdict": "overridden", "level": 1, "why": "面色苍白，大汗"}
    reply = world.nurse.caller.post(f"{triage}/{suggestion}", decision)
    assert reply.status == 200, reply
    board = world.doctor.caller.get(f"/patients/{world.patient}/consultations").body["board"]
    (draft,) = board["open"]
    assert (draft["state"], draft["acuity"]) == ("draft", 1)
    shown = world.at_clinic(draft["id"])
    assert {event["by"]["who"] for event in shown["waiting"] + shown["events"]} == {"triage"}

    first, second = world.experts
    profile(world.admin, first)
    profile(world.admin, second, on_leave=True)
    inbox(first)
    urgent = world.ask(complaint="胸痛")
    assert urgent == draft["id"]  # never a second one beside it
    waits = world.ask(complaint="慢性咳嗽")  # another request goes with the level too
    assert waits != urgent
    wait_until("both are in the inbox", lambda: {waits, urgent} <= rows_of(first).keys())
    rows = rows_of(first)
    assert (rows[urgent]["acuity"], rows[urgent]["urgent"]) == (1, True)
    for case in (waits, urgent):
        world.cancel(case)


def test_asked_with_the_line_down_it_arrives_when_the_line_is_back(world: World) -> None:
    first, _ = world.experts
    feed = Feed(first.caller)
    try:
        world.line.down = True
        world.line.reset()
        case = world.ask(complaint="断网时的申请")
        shown = world.at_clinic(case)
        assert (shown["state"], shown["confirmed"], len(shown["waiting"])) == ("pending", None, 3)
        own = world.doctor.caller.get(f"/consultations/{case}").body["own"]
        assert {each["item"]["state"] for each in own} <= {"stored", "sent"}
        world.hub.kill()  # and the hub dies meanwhile
        world.hub.start().wait()
        world.line.down = False
        wait_until("the expert is asked", lambda: case in listed(first, "asked"))
        assert first.caller.post(f"/cases/{case}/accept").status == 200
        wait_until("the clinic sees it", lambda: world.at_clinic(case)["confirmed"] == "accepted")
        own = world.doctor.caller.get(f"/consultations/{case}").body["own"]
        assert {each["item"]["state"] for each in own} == {"safe"}
        assert first.caller.get(f"/cases/{case}").status == 200
        wait_until("the clinic learns who saw it", lambda: world.seen_by(case) == {"测试chen"})
    finally:
        world.line.down = False
        feed.close()
    world.cancel(case)


def test_a_deadline_outlives_the_hub(world: World) -> None:
    first, second = world.experts
    profile(world.admin, second)
    profile(world.admin, first, on_leave=True)
    inbox(second)
    case = world.ask()
    wait_until("the expert is asked", lambda: case in listed(second, "asked"))
    world.hub.kill()
    world.hub.start().wait()
    wait_until("it expired", lambda: world.at_clinic(case)["waits"] == "all-asked")
    assert case in listed(second, "open")  # offered to all who fit, also to who was asked
    assert second.caller.post(f"/cases/{case}/accept").status == 200
    declined = second.caller.post(f"/cases/{case}/decline", {"reason": "临时有手术"})
    assert declined.status == 200
    wait_until("the clinic reads why", lambda: "临时有手术" in str(world.at_clinic(case)["events"]))
    world.cancel(case)


def signs(world: World, expert: Person, case: str) -> str:
    """Key, certificate, opinion and signature as the expert's browser makes them; its id."""
    caller = expert.caller
    challenge = caller.post("/signing/challenge").body
    body = browser.request_body(challenge["challenge"], challenge["account"])
    request = caller.post("/signing/request", body).body["id"]
    seen = {"identity_seen": True, "licence_seen": True}
    approved = world.admin.caller.post(f"/signers/requests/{request}/approve", seen)
    assert approved.status == 200, approved
    words = {"findings": "ST 段抬高", "conclusion": "急性心肌梗死", "advice": "立即转诊"}
    assert (saved := caller.post(f"/cases/{case}/opinion", words)).status == 200, saved
    to_sign = caller.get(f"/cases/{case}/opinion/sign").body["to_sign"]
    signed = caller.post(f"/cases/{case}/opinion/sign", browser.signed_body(to_sign))
    assert signed.status == 200, signed
    return str(signed.body["id"])


def test_a_cancellation_that_a_signature_overtook_comes_back_with_its_reason(world: World) -> None:
    """Taken back with the line down while the expert signs: the order of the hub counts."""
    first, _ = world.experts
    profile(world.admin, first)
    inbox(first)
    case = world.ask()
    wait_until(
        "the expert takes it", lambda: first.caller.post(f"/cases/{case}/accept").status == 200
    )
    wait_until("the clinic sees it", lambda: world.at_clinic(case)["confirmed"] == "accepted")
    world.line.down = True
    world.line.reset()
    try:
        world.cancel(case)
        shown = world.at_clinic(case)
        assert (shown["state"], shown["confirmed"]) == ("cancelled", "accepted")
        (cancelled,) = shown["waiting"]
        opinion = signs(world, first, case)
    finally:
        world.line.down = False
    wait_until("the hub has answered", lambda: world.at_clinic(case)["waiting"] == [])
    shown = world.at_clinic(case)
    assert (shown["state"], shown["confirmed"]) == ("signed", "signed")
    (refused,) = shown["refused"]
    assert (refused["event"]["id"], refused["code"]) == (cancelled["id"], "illegal-transition")
    assert refused["reason"] == "cancelled is not possible: the consultation is signed"
    page = world.doctor.caller.get(f"/consultations/{case}", Accept="text/html").body
    assert "被中心退回" in page
    assert "会诊已进入别的状态" in page
    wait_until(
        "the record's own state says so",
        lambda: "illegal-transition" in world.box.ask("item", cancelled["id"]),
    )

    read = f"/consultations/{case}/complete"
    wrong = world.doctor.caller.post(read, {"opinion": "0" * 32})
    assert (wrong.status, wrong.body["code"]) == (409, "opinion-missing")
    wait_until(
        "the opinion is here and read",
        lambda: world.doctor.caller.post(read, {"opinion": opinion}).status == 200,
    )
    again = world.doctor.caller.post(read, {"opinion": opinion})
    assert (again.status, again.body["code"]) == (409, "illegal-transition")
    for_people = world.doctor.caller.post(read, {"opinion": opinion}, Accept="text/html")
    assert for_people.status == 409
    assert "会诊已进入别的状态" in for_people.body
    wait_until("the hub agrees", lambda: world.at_clinic(case)["confirmed"] == "completed")
    assert case in listed(first, "own")

    people = hub_people(world.hub)
    patient = enter(
        people.port, people.make("zhang", Role.PATIENT, patient=world.patient), second=False
    )
    mine = {each["id"]: each for each in patient.caller.get("/mine").body["consultations"]}
    assert (mine[case]["state"], mine[case]["opinion"]) == ("completed", opinion)
    assert patient.caller.get(f"/mine/opinions/{opinion}").status == 200
    assert patient.caller.get(f"/cases/{case}").status == 403
