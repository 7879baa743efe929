"""Every route of both consoles: a look at a patient's data leaves an audit row, a page of nobody's
data is named as such, and a new route is noted until somebody says otherwise.
"""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from lianzhen_edge.box import Box
from lianzhen_edge.clinic.app import Clinic
from lianzhen_edge.settings import Settings as BoxSettings
from lianzhen_hub.consoles.app import HubConsole
from lianzhen_hub.hub import Hub
from lianzhen_hub.settings import Settings as HubSettings
from lianzhen_protocol.accounts import Role
from lianzhen_runtime.web.noting import AGAIN_MS, NOBODYS, QUIET_MS
from lianzhen_runtime.web.routes import Route, Routes, Visit
from support.memory_console import House, Visitor

ID = "ab" * 16
TOUCHING = ("/patients", "/consultations", "/cases", "/inbox", "/mine", "/my/", "/settlements")
"""What must be noted whatever the list of exceptions says."""


@pytest.fixture(scope="module")
def routes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Route]]:
    folder: Path = tmp_path_factory.mktemp("programs")
    box = Box(BoxSettings(state=str(folder / "box")), ())
    hub = Hub(HubSettings(state=str(folder / "hub")))
    return {"clinic": Clinic(box).console.routes, "hub": HubConsole(hub).console.routes}


def address(path: str) -> str:
    return re.sub(r"\{(?:[^{}]|\{\d+\})*\}", ID, path)  # also {id:[0-9a-f]{32}}


def may_be_nobodys(path: str) -> bool:
    return path == "/" or path.strip("/").partition("/")[0] in NOBODYS


class Answering:
    """Each declared GET under its own path, for a doctor (or, where it is theirs, for a patient),
    with a handler that answers.
    """

    def __init__(self, declared: list[Route]) -> None:
        self.areas = Routes()
        self.paths: list[tuple[str, Role]] = []
        for route in declared:
            public = None in route.roles  # and so shows nobody's data
            if route.method == "GET" and not public and not may_be_nobodys(route.path):
                role = Role.PATIENT if route.roles == {Role.PATIENT} else Role.DOCTOR
                self.areas.get(route.path, roles=frozenset({role}))(self._answer)
                self.paths.append((route.path, role))

    @staticmethod
    async def _answer(visit: Visit) -> web.Response:
        return web.Response(text=visit.request.path)


@pytest.mark.parametrize("console", ["clinic", "hub"])
async def test_every_look_at_a_patients_data_is_noted(
    routes: dict[str, list[Route]], console: str
) -> None:
    answering = Answering(routes[console])
    assert len(answering.paths) > 5
    house = House(answering.areas)
    rows = house.store.page.audited
    async with house.open() as client:
        visitors: dict[Role, Visitor] = {}
        for role in {role for _, role in answering.paths}:
            patient = ID if role is Role.PATIENT else ""
            await house.person(f"{role}.one", role, patient=patient)
            visitors[role] = Visitor(client)
            status, said = await visitors[role].sign_in(f"{role}.one")
            assert status == 200, said
        for path, role in answering.paths:
            house.later(AGAIN_MS + 1)
            before = len(rows)
            status, _ = await visitors[role].ask("GET", address(path))
            assert status == 200, path
            ((_, action, subject),) = rows[before:]
            assert action == "read", path
            assert ID in subject or subject == f"page{path}", path


def test_what_touches_patients_is_on_no_list_of_exceptions(
    routes: dict[str, list[Route]],
) -> None:
    for declared in routes.values():
        for route in declared:
            if route.path.startswith(TOUCHING):
                assert not may_be_nobodys(route.path), route.path


def test_every_exception_is_still_a_page(routes: dict[str, list[Route]]) -> None:
    firsts = {
        route.path.strip("/").partition("/")[0] for found in routes.values() for route in found
    }
    assert NOBODYS - firsts <= {"modalities", "signers", "signing", "status", "verify", "wearables"}


# -- what counts as one look


@pytest.fixture
async def doctor() -> AsyncIterator[tuple[House, Visitor]]:
    area = Routes()

    async def answer(visit: Visit) -> web.Response:
        if visit.match("id") == "none":
            raise web.HTTPNotFound
        return web.Response(text="here")

    area.get("/patients/{id}", roles=frozenset({Role.DOCTOR}))(answer)
    area.get("/patients/{id}/fragment", roles=frozenset({Role.DOCTOR}))(answer)
    house = House(area)
    async with house.open() as client:
        await house.person("wang", Role.DOCTOR)
        visitor = Visitor(client)
        await visitor.sign_in("wang")
        house.store.page.audited.clear()
        yield house, visitor


async def test_the_same_look_within_a_minute_is_one_row(doctor: tuple[House, Visitor]) -> None:
    house, visitor = doctor
    for _ in range(3):
        await visitor.ask("GET", f"/patients/{ID}")
    await visitor.ask("GET", f"/patients/{ID}/fragment")
    await visitor.ask("GET", "/patients/another")
    subjects = [subject for _, _, subject in house.store.page.audited]
    assert subjects == [f"patient/{ID}", "patient/another"]
    house.later(AGAIN_MS)
    await visitor.ask("GET", f"/patients/{ID}")
    assert len(house.store.page.audited) == 3


async def test_what_an_open_page_loads_by_itself_belongs_to_its_look(
    doctor: tuple[House, Visitor],
) -> None:
    house, visitor = doctor
    path = f"/patients/{ID}/fragment"
    await visitor.ask("GET", path)
    house.later(AGAIN_MS + 1)
    await visitor.ask("GET", path, Lz_Quiet="1")
    assert len(house.store.page.audited) == 1
    house.later(QUIET_MS)  # a page that is left open all day is noted each hour
    await visitor.sign_in("wang")
    house.store.page.audited.clear()
    await visitor.ask("GET", path, Lz_Quiet="1")
    assert len(house.store.page.audited) == 1


async def test_what_was_not_shown_is_not_noted(doctor: tuple[House, Visitor]) -> None:
    house, visitor = doctor
    assert (await visitor.ask("GET", "/patients/none"))[0] == 404
    assert house.store.page.audited == []
