"""A form that is sent again, by whatever accident, is done once and answered alike."""

import asyncio
import re
from collections.abc import AsyncIterator

import msgspec
import pytest
from aiohttp import web

from lianzhen_protocol.accounts import CLINICAL, Role
from lianzhen_protocol.sheets import Index, Sheet
from lianzhen_runtime.web.errors import Unfit
from lianzhen_runtime.web.once import KEPT_MS, Done
from lianzhen_runtime.web.routes import Routes, Visit
from lianzhen_runtime.web.store import Pen
from support.browser import ROOT
from support.memory_console import Client, House, Visitor

ONE = {"name": "胸片", "once": "0192f0c1a7b87c3e9d2f1a2b3c4d5e6f"}
BY_NATURE = ("/language/", "/logout", "/login", "/account/", "/setup/", "/quarantine/")
"""Forms of which a second sending makes nothing: signing in and out, one's own password, a blank
box's first hour and a record in quarantine (both decided once)."""


class Note(Sheet, frozen=True, kw_only=True):
    SHEET = "note"

    id: str
    name: str

    def index(self) -> Index:
        return Index(self.id)


class NewNote(msgspec.Struct, frozen=True, kw_only=True):
    name: str


def area(house: list[House]) -> Routes:
    found = Routes()

    @found.post("/notes", roles=CLINICAL)
    async def make(visit: Visit) -> web.Response:
        name = (await visit.form(NewNote)).name

        def work(pen: Pen) -> str:
            if name == "not now":
                raise Unfit("not now")
            made = Note(id=pen.new_id(), name=name)
            pen.put(made)
            return made.id

        key = await visit.once(house[0].store.write, work, str)
        return visit.see_other(f"/notes/{key}", id=key)

    return found


@pytest.fixture
async def house() -> AsyncIterator[tuple[House, Client]]:
    held: list[House] = []
    made = House(area(held))
    held.append(made)
    await made.person("lin", Role.NURSE)
    await made.person("gao", Role.DOCTOR)
    async with made.open() as client:
        yield made, client


async def nurse(client: Client, login: str = "lin") -> Visitor:
    found = Visitor(client)
    await found.sign_in(login)
    return found


async def test_ten_times_and_at_the_same_time_is_once(house: tuple[House, Client]) -> None:
    made, client = house
    visitor = await nurse(client)
    first = await visitor.ask("POST", "/notes", ONE)
    assert first[0] == 200
    again = await asyncio.gather(*(visitor.ask("POST", "/notes", ONE) for _ in range(9)))
    assert again == [first] * 9
    assert len(made.store.page.find(Note)) == 1


async def test_what_is_another_act_is_done(house: tuple[House, Client]) -> None:
    made, client = house
    visitor, other = await nurse(client), await nurse(client, "gao")
    acts = (
        (visitor, ONE),
        (visitor, ONE | {"once": ONE["once"][:-1] + "0"}),
        (visitor, ONE | {"name": "心电图"}),  # went back and typed something else
        (other, ONE),
        (visitor, {"name": "胸片"}),  # a program that says nothing
        (visitor, {"name": "胸片"}),
    )
    found = {(await who.ask("POST", "/notes", what))[1]["id"] for who, what in acts}
    assert len(found) == len(made.store.page.find(Note)) == len(acts)


async def test_what_was_refused_may_be_tried_again(house: tuple[House, Client]) -> None:
    made, client = house
    visitor = await nurse(client)
    for _ in range(2):
        assert (await visitor.ask("POST", "/notes", ONE | {"name": "not now"}))[0] == 422
    assert made.store.page.find(Done) == []


async def test_it_is_forgotten_after_a_week(house: tuple[House, Client]) -> None:
    made, client = house
    visitor = await nurse(client)
    await visitor.ask("POST", "/notes", ONE)
    made.later(KEPT_MS + 1)
    visitor = await nurse(client)
    await visitor.ask("POST", "/notes", ONE | {"once": "another"})
    assert len(made.store.page.find(Done)) == 1


def test_every_form_carries_its_id() -> None:
    forms = 0
    for folder in ("runtime", "edge", "hub"):
        for file in sorted((ROOT / folder).rglob("*.html")):
            text = file.read_text(encoding="utf-8")
            for form in re.findall(r'<form method="post".*?</form>', text, re.DOTALL):
                if not any(f'action="{path}' in form for path in BY_NATURE):
                    forms += 1
                    assert re.search(r"\{\{ (ui\.)?once\(\) \}\}", form), f"{file.name}: {form}"
    assert forms > 25


ELSEWHERE = {
    "imaging.key": "a key image is one or is none, by what was said last",
    "imaging.test": "it only calls a modality back",
    "opinions.cancel": "a print job ends once",
    "opinions.sign": "an opinion is its bytes",
    "people.check": "it only says what an ID number says",
    "money.reverse": "a claim is reversed once, by its id",
    "signers.ask": "a key is asked for once, by its own bytes",
    "signers.challenge": "the newest counts",
}
"""Handlers that may do without, and why."""


def test_every_handler_of_a_form_does_it_once() -> None:
    seen = 0
    for folder in ("edge/lianzhen_edge/clinic", "hub/lianzhen_hub/consoles"):
        for file in sorted((ROOT / folder).glob("*.py")):
            text = file.read_text(encoding="utf-8")
            declared = r"found\.post\([^)]*\)\((?:_?spoken\()?pages\.(\w+)"
            bodies = dict(
                re.findall(r"\n    async def (\w+)(\(.*?)(?=\n    async def |\Z)", text, re.DOTALL)
            )
            for name in re.findall(declared, text):
                seen += 1
                once = re.search(r"visit\.(once|act)\(|self\._register\(", bodies[name])
                assert once or f"{file.stem}.{name}" in ELSEWHERE, f"{file.name}: {name}"
    assert seen > 30
