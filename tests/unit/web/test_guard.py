"""What stands in front of every handler: roles, foreign pages, headers, forms, languages."""

from collections.abc import AsyncIterator

import msgspec
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from lianzhen_protocol.accounts import CLINICAL, Role
from lianzhen_runtime.web.console import local_path
from lianzhen_runtime.web.routes import ANYBODY, Routes, Visit
from support.memory_console import Client, House, Visitor


class Pet(msgspec.Struct, frozen=True, kw_only=True):
    """A form with one of each."""

    name: str
    legs: int
    tags: list[str]
    tame: bool = False
    weight: float | None = None


def area() -> Routes:
    found = Routes()

    @found.get("/ward", roles=CLINICAL)
    async def ward(visit: Visit) -> web.Response:
        return visit.page("home.html", who=visit.actor.login)

    @found.get("/open", roles=ANYBODY)
    async def open_(visit: Visit) -> web.Response:
        return visit.page("home.html", known=visit.someone is not None)

    @found.post("/pets", roles=ANYBODY)
    async def pets(visit: Visit) -> web.Response:
        return visit.see_other("/open", pet=await visit.form(Pet))

    @found.get("/broken", roles=ANYBODY)
    async def broken(_visit: Visit) -> web.Response:
        raise ZeroDivisionError("张三")

    return found


@pytest.fixture
async def house() -> AsyncIterator[tuple[House, Client]]:
    made = House(area())
    await made.person("lin", Role.NURSE)
    await made.person("gao", Role.PHARMACIST)
    async with made.open() as client:
        yield made, client


async def test_only_whoever_has_the_role(house: tuple[House, Client]) -> None:
    _, client = house
    nobody, nurse, other = Visitor(client), Visitor(client), Visitor(client)
    await nurse.sign_in("lin")
    await other.sign_in("gao")
    assert await nurse.ask("GET", "/ward") == (200, {"who": "lin"})
    status, found = await other.ask("GET", "/ward")
    assert (status, found["code"]) == (403, "not-yours")
    status, found = await nobody.ask("GET", "/ward")
    assert (status, found["code"]) == (401, "not-signed-in")
    nobody.cookie = "x" * 43
    assert (await nobody.ask("GET", "/ward"))[0] == 401


async def test_people_are_led_to_the_door(house: tuple[House, Client]) -> None:
    visitor = Visitor(house[1])
    status, _ = await visitor.ask("GET", "/ward?day=1", Accept="text/html")
    assert (status, visitor.last["location"]) == (303, "/login?next=/ward%3Fday%3D1")


def test_a_route_for_nobody_is_none() -> None:
    with pytest.raises(ValueError, match="for nobody"):
        Routes().get("/x", roles=frozenset())


def test_one_route_is_declared_once() -> None:
    with pytest.raises(ValueError, match="twice"):
        House(area(), area())


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
    ],
)
async def test_a_foreign_page_changes_nothing(
    house: tuple[House, Client], headers: dict[str, str]
) -> None:
    nurse = Visitor(house[1])
    await nurse.sign_in("lin")
    sent = {name.replace("-", "_"): text for name, text in headers.items()}
    status, found = await nurse.ask("POST", "/logout", {}, **sent)
    assert (status, found["code"]) == (403, "foreign-page")
    assert (await nurse.ask("GET", "/ward"))[0] == 200


@pytest.mark.parametrize("header", ["Sec-Purpose", "Purpose"])
async def test_what_a_browser_loads_ahead_nobody_has_looked_at(
    house: tuple[House, Client], header: str
) -> None:
    nurse = Visitor(house[1])
    await nurse.sign_in("lin")
    status, found = await nurse.ask("GET", "/ward", **{header.replace("-", "_"): "prefetch"})
    assert (status, found["code"]) == (503, "not-opened")
    assert (await nurse.ask("GET", "/ward"))[0] == 200


async def test_our_own_page_does(house: tuple[House, Client]) -> None:
    nurse = Visitor(house[1])
    await nurse.sign_in("lin")
    own = str(house[1].make_url("")).rstrip("/")
    assert (await nurse.ask("POST", "/logout", {}, Origin=own))[0] == 200
    assert (await nurse.ask("GET", "/ward"))[0] == 401


@pytest.mark.parametrize("path", ["/open", "/ward", "/nowhere", "/broken", "/static/manifest.json"])
async def test_every_answer_carries_the_policy(house: tuple[House, Client], path: str) -> None:
    visitor = Visitor(house[1])
    for accept in ("text/html", "application/json"):
        await visitor.ask("GET", path, Accept=accept)
        policy = visitor.last["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert visitor.last["x-content-type-options"] == "nosniff"
        assert "server" not in visitor.last
        assert visitor.last["cache-control"] == "no-store"


async def test_an_error_of_ours_says_nothing_of_its_inside(house: tuple[House, Client]) -> None:
    visitor = Visitor(house[1])
    for accept in ("text/html", "application/json"):
        status, found = await visitor.ask("GET", "/broken", Accept=accept)
        assert status == 500
        assert "张三" not in str(found)
        assert "Zero" not in str(found)
    status, found = await visitor.ask("GET", "/nowhere", Accept="text/html,*/*")
    assert status == 404
    assert "没有找到" in found


async def test_a_form_or_json_becomes_one_struct(house: tuple[House, Client]) -> None:
    visitor = Visitor(house[1])
    pet = {"name": "阿黄", "legs": 4, "tags": ["a", "b"], "tame": True}
    _, by_json = await visitor.ask("POST", "/pets", pet)
    fields = [("name", "阿黄"), ("legs", "4"), ("tags", "a"), ("tags", "b"), ("tame", "true")]
    async with house[1].post(
        "/pets", data=[*fields, ("weight", "")], headers={"Accept": "application/json"}
    ) as answer:
        by_form = await answer.json()
    assert by_json == by_form
    assert by_json["pet"] == pet | {"weight": None}


@pytest.mark.parametrize("legs", ["four", "", "4.5"])
async def test_a_wrong_field_is_named(house: tuple[House, Client], legs: str) -> None:
    async with house[1].post(
        "/pets", data={"name": "x", "legs": legs}, headers={"Accept": "application/json"}
    ) as answer:
        assert answer.status == 422
        assert "$.legs" in (await answer.json())["detail"]


async def test_the_language_is_chinese_until_another_is_chosen(
    house: tuple[House, Client],
) -> None:
    _, page = await Visitor(house[1]).ask("GET", "/login", Accept="text/html", Accept_Language="en")
    assert '<html lang="zh-CN"' in page
    _, page = await Visitor(house[1]).ask("GET", "/login?lang=en", Accept="text/html")
    assert '<html lang="en"' in page
    _, page = await Visitor(house[1]).ask("GET", "/login?lang=%22%3E", Accept="text/html")
    assert '<html lang="zh-CN"' in page


@given(st.text())
def test_no_redirect_leads_away(text: str) -> None:
    found = local_path(text)
    assert found.startswith("/")
    assert not found.startswith(("//", "/\\"))


@pytest.mark.parametrize(
    "text", ["//evil", "/\\evil", "https://evil", "javascript:1", "", "/a\nb", "/\t/evil", "/a\rb"]
)
def test_what_is_no_path_of_ours(text: str) -> None:
    assert local_path(text) == "/"


@pytest.mark.parametrize(
    ("path", "opened"),
    [
        ("/static/workers/decode.js", True),
        ("/static/assets/viewer.js", False),
        ("/open", False),
        ("/static/", False),
        ("/workers/", False),
    ],
)
async def test_webassembly_runs_in_workers_and_in_no_page(
    house: tuple[House, Client], path: str, opened: bool
) -> None:
    _, client = house
    async with client.get(path) as answer:
        policy = answer.headers["Content-Security-Policy"]
    assert ("'wasm-unsafe-eval'" in policy) is opened
    assert "'unsafe-" not in policy
