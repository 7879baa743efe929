"""The stream of events: for whom, from where on, and when it ends."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import ClientResponse

from lianzhen_protocol.accounts import CLINICAL, Account, Role
from support.memory_console import Client, House, Visitor

Event = dict[str, str]


@pytest.fixture
async def house() -> AsyncIterator[tuple[House, Client]]:
    made = House()
    await made.person("lin", Role.NURSE)
    await made.person("gao", Role.PHARMACIST)
    async with made.open() as client:
        yield made, client


class Listener:
    """An EventSource."""

    def __init__(self, client: Client, visitor: Visitor) -> None:
        self._client = client
        self._cookie = visitor.cookie
        self.answer: ClientResponse | None = None

    async def open(self, last: str = "") -> "Listener":
        headers = {"Cookie": f"__Host-lz-test={self._cookie}", "Accept": "text/event-stream"}
        if last:
            headers["Last-Event-ID"] = last
        self.answer = await self._client.get("/live", headers=headers)
        assert self.answer.status == 200
        await self.next()  # how soon to come back
        return self

    async def next(self) -> Event | None:
        """The next event; None at the end."""
        assert self.answer is not None
        found: Event = {}
        async with asyncio.timeout(60):
            while line := (await self.answer.content.readline()).decode():
                if line == "\n":
                    return found
                name, _, text = line.strip().partition(": ")
                found[name] = text
        return None


async def listener(house: tuple[House, Client], login: str, last: str = "") -> Listener:
    visitor = Visitor(house[1])
    await visitor.sign_in(login)
    return await Listener(house[1], visitor).open(last)


async def test_a_page_that_joins_asks_what_it_missed(house: tuple[House, Client]) -> None:
    live = house[0].console.live
    live.tell("before", 0)
    made_at = live.position
    live.tell("alarm", {"x": 1}, roles=frozenset(CLINICAL))
    live.tell("bill", 2, roles=frozenset({Role.PHARMACIST}))
    nurse = Visitor(house[1])
    await nurse.sign_in("lin")
    _, found = await nurse.ask("GET", f"/live/since?after={made_at}")
    assert [(each["kind"], each["data"]) for each in found["events"]] == [("alarm", '{"x":1}')]
    _, found = await nurse.ask("GET", f"/live/since?after={found['events'][0]['id']}")
    assert found["events"] == []
    _, found = await nurse.ask("GET", "/live/since?after=another-7")
    assert found["events"] is None  # another run of the program: load everything


async def test_each_role_hears_its_own(house: tuple[House, Client]) -> None:
    live = house[0].console.live
    nurse, other = await listener(house, "lin"), await listener(house, "gao")
    live.tell("alarm", {"n": 1}, CLINICAL)
    live.tell("news", {"n": 2})
    first = await nurse.next()
    assert first is not None
    assert (first["event"], first["data"]) == ("alarm", '{"n":1}')
    heard = await other.next()
    assert heard is not None
    assert heard["event"] == "news"


async def test_a_person_hears_what_is_for_them_alone(house: tuple[House, Client]) -> None:
    made = house[0]
    (lin,) = made.store.page.find_token(Account, "login", "lin")
    nurse, other = await listener(house, "lin"), await listener(house, "gao")
    made.console.live.tell("letter", 1, people=frozenset({lin.id}))
    made.console.live.tell("news", 2)
    assert [(await nurse.next() or {})["event"] for _ in range(2)] == ["letter", "news"]
    assert (await other.next() or {})["event"] == "news"


async def test_who_was_cut_off_gets_what_was_missed(house: tuple[House, Client]) -> None:
    live = house[0].console.live
    nurse = await listener(house, "lin")
    live.tell("alarm", 1)
    seen = await nurse.next()
    assert seen is not None
    live.tell("alarm", 2)
    live.tell("alarm", 3)
    again = await listener(house, "lin", seen["id"])
    assert [(await again.next() or {})["data"] for _ in range(2)] == ["2", "3"]


@pytest.mark.parametrize("last", ["abcd1234-1", "nonsense", "-", "00000000-99999"])
async def test_who_comes_from_another_run_loads_all_anew(
    house: tuple[House, Client], last: str
) -> None:
    house[0].console.live.tell("alarm", 1)
    nurse = await listener(house, "lin", last)
    assert (await nurse.next() or {})["event"] == "reset"


async def test_who_was_away_too_long_loads_all_anew(house: tuple[House, Client]) -> None:
    live = house[0].console.live
    nurse = await listener(house, "lin")
    live.tell("alarm", 0)
    seen = await nurse.next()
    for number in range(600):
        live.tell("alarm", number)
    again = await listener(house, "lin", (seen or {})["id"])
    assert (await again.next() or {})["event"] == "reset"


async def test_it_ends_with_the_session(house: tuple[House, Client]) -> None:
    made, client = house
    visitor = Visitor(client)
    await visitor.sign_in("lin")
    nurse = await Listener(client, visitor).open()
    assert (await visitor.ask("POST", "/logout", {}))[0] == 200
    made.console.live.tell("alarm", "张三")
    assert await nurse.next() is None


async def test_it_ends_with_the_account(house: tuple[House, Client]) -> None:
    made = house[0]
    nurse = await listener(house, "lin")
    (lin,) = made.store.page.find_token(Account, "login", "lin")
    await made.registry.revoke(lin, "owner")
    assert await nurse.next() is None


async def test_it_ends_with_the_program(house: tuple[House, Client]) -> None:
    nurse = await listener(house, "lin")
    house[0].console.live.close()
    assert await nurse.next() is None
