"""Every declared route of both consoles, as every role and as nobody: who may not, does not."""

import re
from pathlib import Path

from lianzhen_protocol.accounts import Role
from lianzhen_runtime.web.routes import Route
from support.browser import Site
from support.consoles import Caller, People
from support.routes import AT_THE_CLINIC, AT_THE_HUB, clinic_routes, hub_routes

_VARIABLE = re.compile(r"\{(?:[^{}]|\{[^{}]*\})*\}")
NO_ID = "01a20e3dac397360b1f7390448a78251"
ENDS_THE_SESSION = {"/logout"}
AFTER_A_PASSWORD = {"/login/second"}
"""For nobody yet, and not for just anybody."""


FITTING = (NO_ID, "1.2.3", "1")
"""One of these fits the pattern of any variable."""


def address(route: Route) -> str:
    return _VARIABLE.sub(_fitting, route.path)


def _fitting(variable: re.Match[str]) -> str:
    _, _, pattern = variable[0][1:-1].partition(":")
    return next(one for one in FITTING if re.fullmatch(pattern or ".+", one))


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


def test_clinic(site: Site, tmp_path: Path) -> None:
    routes = clinic_routes(tmp_path)
    assert len(routes) > 40
    assert walk(routes, site.clinic, AT_THE_CLINIC) == []


def test_hub(site: Site, tmp_path: Path) -> None:
    routes = hub_routes(tmp_path)
    assert len(routes) > 40
    assert walk(routes, site.centre, AT_THE_HUB) == []


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
