"""Every declared route of both consoles, as every role and as nobody: who may not, does not."""

import re
from pathlib import Path

import pytest

from lianzhen_edge.box import Box
from lianzhen_edge.clinic.app import Clinic
from lianzhen_edge.settings import Settings as BoxSettings
from lianzhen_hub.consoles.app import HubConsole
from lianzhen_hub.hub import Hub
from lianzhen_hub.settings import Settings as HubSettings
from lianzhen_protocol.accounts import Role
from lianzhen_runtime.web.routes import Route
from support.browser import Site
from support.consoles import Caller, People

NO_ID = "01a20e3dac397360b1f7390448a78251"
AT_THE_CLINIC = (Role.NURSE, Role.DOCTOR, Role.PHARMACIST, Role.ADMIN)
AT_THE_HUB = (Role.EXPERT, Role.ADMIN, Role.PATIENT)
ENDS_THE_SESSION = {"/logout"}
AFTER_A_PASSWORD = {"/login/second"}
"""For nobody yet, and not for just anybody."""


def address(route: Route) -> str:
    return re.sub(r"\{[^}]*\}", NO_ID, route.path)


def walk(routes: list[Route], people: People, roles: tuple[Role, ...]) -> list[str]:
    """What is not as it should be, each as one line."""
    wrong: list[str] = []
    callers: dict[Role | None, Caller] = {role: people.of(role).caller for role in roles}
    callers[None] = Caller(people.port)
    for route in routes:
        for role, caller in callers.items():
            allowed = role in route.roles
            if role is None and route.path in AFTER_A_PASSWORD:
                allowed = False
            if allowed and route.path in ENDS_THE_SESSION:
                continue
            reply = caller.call(route.method, address(route), None if route.method == "GET" else {})
            code = reply.body.get("code", "") if isinstance(reply.body, dict) else ""
            if allowed:
                fine = reply.status < 500 and code not in {"not-signed-in", "not-yours"}
            elif role is None:
                fine = (reply.status, code) == (401, "not-signed-in")
            else:
                fine = (reply.status, code) == (403, "not-yours")
            if not fine:
                wrong.append(f"{role} {route.method} {route.path}: {reply.status} {code}")
    return wrong


@pytest.fixture(scope="module")
def clinic_routes(tmp_path_factory: pytest.TempPathFactory) -> list[Route]:
    folder = tmp_path_factory.mktemp("box")
    return Clinic(Box(BoxSettings(state=str(folder)), ())).console.routes


@pytest.fixture(scope="module")
def hub_routes(tmp_path_factory: pytest.TempPathFactory) -> list[Route]:
    folder: Path = tmp_path_factory.mktemp("hub")
    return HubConsole(Hub(HubSettings(state=str(folder)))).console.routes


def test_clinic(site: Site, clinic_routes: list[Route]) -> None:
    assert len(clinic_routes) > 15
    assert walk(clinic_routes, site.clinic, AT_THE_CLINIC) == []


def test_hub(site: Site, hub_routes: list[Route]) -> None:
    assert len(hub_routes) > 15
    assert walk(hub_routes, site.centre, AT_THE_HUB) == []


def test_what_is_not_declared_is_not_there(site: Site) -> None:
    for people, role in ((site.clinic, Role.ADMIN), (site.centre, Role.ADMIN)):
        for path in ("/admin", "/static/", "/static/../console.py", "/health", "/metrics"):
            assert people.of(role).caller.get(path).status in {403, 404}, path


def test_a_session_of_one_console_opens_nothing_at_the_other(site: Site) -> None:
    """Nor under the other's cookie name."""
    for ours, theirs in ((site.clinic, site.centre), (site.centre, site.clinic)):
        caller = Caller(theirs.port)
        (token,) = ours.of(Role.ADMIN).caller.cookies.values()
        (name,) = theirs.of(Role.ADMIN).caller.cookies.keys()
        caller.cookies = {name: token}
        assert caller.get("/staff").status == 401


def test_a_clinics_people_do_not_sign_in_at_the_hub(site: Site) -> None:
    nurse = site.clinic.of(Role.NURSE)
    found = Caller(site.centre.port).post(
        "/login", {"login": nurse.login, "password": nurse.password}
    )
    assert (found.status, found.body["code"]) == (401, "wrong-secret")
