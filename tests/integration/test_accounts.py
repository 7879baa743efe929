"""Accounts on real programs: the first one by the claim, across the line, with the line cut."""

import json
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from lab import BoxProgram, HubProgram, Lab, ask, lab, wait_until
from lianzhen_protocol.accounts import Role
from support.consoles import PASSWORD, Caller, People, clinic_people, code_of, enter, hub_people
from support.patients import an_id_number

FIRST = "first pass phrase here"


class Clinic(NamedTuple):
    hub: HubProgram
    box: BoxProgram
    node: str
    claim: str
    centre: People

    @property
    def anybody(self) -> Caller:
        return Caller(self.box.console_port)


@pytest.fixture(scope="module")
def clinic() -> Iterator[Clinic]:
    """A box that is enrolled from its setup page."""
    with lab() as made:
        yield set_up(made)


def set_up(made: Lab) -> Clinic:
    hub = made.hub().start().wait()
    box = made.box().start().wait()
    claim = hub.ask("claim", box.box, "--clinic", "青山镇卫生院", "--text")
    caller = Caller(box.console_port)
    assert caller.get("/").body["code"] == "not-enrolled"
    assert caller.get("/", Accept="text/html").headers["location"].startswith("/setup")
    assert caller.get("/setup").body["state"] == "unclaimed"
    assert caller.post("/setup/claim", {"claim": "lianzhen:claim?hub=x"}).status == 400
    assert caller.post("/setup/claim", {"claim": claim}).body == {"location": "/setup"}
    wait_until("an enrolled box that is online", box.online)
    return Clinic(hub, box, str(box.status()["node"]), claim, hub_people(hub))


def first(claim: str) -> dict[str, str]:
    return {"claim": claim, "login": "yuan", "name": "袁院长", "password": FIRST, "again": FIRST}


def login_at(clinic: Clinic, login: str, password: str) -> int:
    return clinic.anybody.post("/login", {"login": login, "password": password}).status


def people_at(program: HubProgram | BoxProgram, node: str) -> dict[str, str]:
    """Login and status of a home's accounts, as a program keeps them."""
    socket = "admin.sock" if isinstance(program, HubProgram) else "control.sock"
    answer = ask(program.state / socket, "GET", f"/accounts?node={node}")
    return {one["login"]: one["status"] for one in answer.body}


def test_the_first_account_is_made_with_the_claim_once(clinic: Clinic) -> None:
    other = clinic.hub.ask("claim", "BOX-2", "--clinic", "another", "--text")
    refused = clinic.anybody.post("/setup/account", first(other))
    assert (refused.status, refused.body["code"]) == (422, "form-unfit")
    weak = first(clinic.claim) | {"password": "short", "again": "short"}
    assert clinic.anybody.post("/setup/account", weak).status == 422
    caller = clinic.anybody
    made = caller.post("/setup/account", first(clinic.claim))
    assert (made.status, made.body["location"]) == (200, "/account/second")
    assert caller.get("/staff").body["code"] == "second-factor-missing"
    secret = caller.get("/account/second").body["secret"]
    assert caller.post("/account/second", {"code": code_of(secret)}).status == 200
    assert [one["login"] for one in caller.get("/staff").body["people"]] == ["yuan"]
    # once: the holder of the claim is nobody special any more
    again = clinic.anybody.post("/setup/account", first(clinic.claim) | {"login": "thief"})
    assert again.status == 404
    assert clinic.anybody.get("/setup").status == 404
    wait_until("the account at the hub", lambda: "yuan" in people_at(clinic.hub, clinic.node))


def test_an_account_made_at_the_hub_signs_in_with_the_line_down(clinic: Clinic) -> None:
    made = clinic.centre.make("zhou", Role.DOCTOR, node=clinic.node)
    wait_until("the account at the box", lambda: "zhou" in people_at(clinic.box, clinic.node))
    clinic.hub.stop()
    try:
        zhou = enter(clinic.box.console_port, made, second=False)
        assert zhou.caller.get("/account").body["who"]["roles"] == ["doctor"]
        # forgotten, and reset on the box itself
        password = clinic.box.ask("reset-password", "zhou")
        assert zhou.caller.get("/account").status == 401
        assert login_at(clinic, "zhou", PASSWORD) == 401
        assert login_at(clinic, "zhou", password) == 200
    finally:
        clinic.hub.start().wait()
    wait_until("a box that is online", clinic.box.online)


def test_a_restart_signs_nobody_out(clinic: Clinic) -> None:
    nurse = clinic_people(clinic.box).of(Role.NURSE)
    clinic.box.kill()
    clinic.box.start().wait()
    assert nurse.caller.get("/account").status == 200


def test_a_revocation_at_the_hub_ends_the_session_at_the_clinic(clinic: Clinic) -> None:
    made = clinic.centre.make("qian", Role.PHARMACIST, node=clinic.node)
    wait_until("the account at the box", lambda: "qian" in people_at(clinic.box, clinic.node))
    qian = enter(clinic.box.console_port, made, second=False)
    clinic.hub.ask("account", "revoke", "qian", "--node", clinic.node)
    wait_until("the end of the session", lambda: qian.caller.get("/account").status == 401)
    assert login_at(clinic, "qian", PASSWORD) == 401


def test_a_revocation_at_the_clinic_ends_the_patients_session_at_the_hub(clinic: Clinic) -> None:
    """A patient's account is made at the clinic, with an activation code to take home."""
    code = clinic.box.ask(
        *("account", "add", "sun", "--name", "孙某", "--role", "patient", "--patient", "ab" * 16)
    )
    wait_until("the account at the hub", lambda: "sun" in people_at(clinic.hub, clinic.node))
    sun = enter(clinic.centre.port, {"id": "", "login": "sun", "password": code}, second=False)
    assert sun.caller.get("/account").status == 200
    assert login_at(clinic, "sun", PASSWORD) == 401  # it reads at the hub, and nowhere else
    clinic.box.ask("account", "revoke", "sun")
    wait_until("the end of the session", lambda: sun.caller.get("/account").status == 401)


def test_a_clinic_gives_a_patient_an_account_to_take_home(clinic: Clinic) -> None:
    nurse = clinic_people(clinic.box, "desk").of(Role.NURSE).caller
    made = nurse.post("/patients", {"name": "赵六", "id_number": an_id_number(7)})
    assert made.status == 200, made
    path = f"/patients/{made.body['id']}/activation"
    paper = nurse.post(path).body
    wait_until(
        "the account at the hub", lambda: paper["login"] in people_at(clinic.hub, clinic.node)
    )
    zhao = enter(clinic.centre.port, paper, second=False)
    assert zhao.caller.get("/account").body["who"]["patient"] == made.body["id"]
    # lost, and given anew: the old one opens nothing, and there is still one account
    again = nurse.post(path).body
    assert again["login"] == paper["login"]
    wait_until("the end of the session", lambda: zhao.caller.get("/account").status == 401)
    assert enter(clinic.centre.port, again, second=False).caller.get("/account").status == 200
    unknown = nurse.post("/patients/temporary", {}).body["id"]
    assert nurse.post(f"/patients/{unknown}/activation").status == 422


def test_both_sides_write_who_did_it_down(clinic: Clinic) -> None:
    assert clinic.hub.ask("audit", "verify")
    assert clinic.box.ask("audit", "verify")


def test_a_box_cannot_make_an_account_of_the_hub(clinic: Clinic) -> None:
    wanted = {"login": "fake", "name": "假", "roles": ["admin"], "node": "nabcdefghjkmn"}
    socket = clinic.box.state / "control.sock"
    answer = ask(socket, "POST", "/accounts", json.dumps(wanted).encode())
    assert (answer.status, answer.body["code"]) == (422, "form-unfit")
