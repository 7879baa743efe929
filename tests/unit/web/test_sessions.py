"""Signing in: how a session begins, what it may do meanwhile, and all the ways in which it ends."""

from collections.abc import AsyncIterator

import pytest

from lianzhen_protocol.accounts import Account, Role, totp_code
from lianzhen_runtime.web import sessions
from lianzhen_runtime.web.sessions import IDLE_MS, LIFE_MS, Session
from support.memory_console import NODE, PASSWORD, Client, House, Visitor

OTHER = "a different pass phrase"


@pytest.fixture
async def house() -> AsyncIterator[tuple[House, Client]]:
    made = House()
    await made.person("lin", Role.NURSE)
    await made.person("boss", Role.ADMIN)
    async with made.open() as client:
        yield made, client


def stored(house: House, login: str) -> Account:
    (found,) = house.store.page.find_token(Account, "login", login)
    return found


async def second_factor(house: House, visitor: Visitor) -> str:
    _, offer = await visitor.ask("GET", "/account/second")
    code = totp_code(offer["secret"], house.store.page.now_ms // 30_000)
    assert (await visitor.ask("POST", "/account/second", {"code": code}))[0] == 200
    return str(offer["secret"])


async def test_the_token_itself_is_kept_nowhere(house: tuple[House, Client]) -> None:
    visitor = Visitor(house[1])
    assert (await visitor.sign_in("Lin "))[0] == 200
    (session,) = house[0].store.page.find(Session)
    assert len(visitor.cookie) >= 43
    assert visitor.cookie not in str(session)
    for attribute in ("HttpOnly", "Secure", "SameSite=Strict", "Path=/"):
        assert attribute in visitor.last["set-cookie"]


async def test_it_ends_by_idleness(house: tuple[House, Client]) -> None:
    made, client = house
    visitor = Visitor(client)
    await visitor.sign_in("lin")
    for _ in range(3):
        made.later(IDLE_MS - 1000)
        assert (await visitor.ask("GET", "/account"))[0] == 200
    made.later(IDLE_MS + 1000)
    assert (await visitor.ask("GET", "/account"))[0] == 401


async def test_what_a_page_asks_for_by_itself_does_not_keep_it(house: tuple[House, Client]) -> None:
    made, client = house
    visitor = Visitor(client)
    await visitor.sign_in("lin")
    for _ in range(3):
        made.later(IDLE_MS // 3)
        assert (await visitor.ask("GET", "/account", Lz_Quiet="1"))[0] == 200
    made.later(1000)
    assert (await visitor.ask("GET", "/account", Lz_Quiet="1"))[0] == 401


async def test_it_ends_by_age(house: tuple[House, Client]) -> None:
    made, client = house
    visitor = Visitor(client)
    await visitor.sign_in("lin")
    for _ in range(LIFE_MS // (IDLE_MS // 2)):
        made.later(IDLE_MS // 2)
        assert (await visitor.ask("GET", "/account"))[0] == 200
    made.later(1000)
    assert (await visitor.ask("GET", "/account"))[0] == 401


async def test_idleness_costs_one_write_a_minute(house: tuple[House, Client]) -> None:
    made, client = house
    visitor = Visitor(client)
    await visitor.sign_in("lin")
    before = made.store.page.get(Session, sessions.digest(visitor.cookie))
    made.later(sessions.TOUCH_MS - 1)
    await visitor.ask("GET", "/account")
    assert made.store.page.get(Session, sessions.digest(visitor.cookie)) == before


async def test_sessions_that_are_over_are_swept(house: tuple[House, Client]) -> None:
    made, client = house
    await Visitor(client).sign_in("lin")
    made.later(LIFE_MS + 1)
    await Visitor(client).sign_in("lin")
    assert len(made.store.page.find(Session)) == 1


async def test_a_password_changed_ends_the_others(house: tuple[House, Client]) -> None:
    here, there = Visitor(house[1]), Visitor(house[1])
    await here.sign_in("lin")
    await there.sign_in("lin")
    change = {"old": PASSWORD, "new": OTHER, "again": OTHER}
    assert (await here.ask("POST", "/account/password", change))[0] == 200
    assert (await here.ask("GET", "/account"))[0] == 200
    assert (await there.ask("GET", "/account"))[0] == 401
    assert (await there.sign_in("lin"))[0] == 401
    assert (await there.sign_in("lin", OTHER))[0] == 200


@pytest.mark.parametrize(
    ("old", "new", "again", "status", "code"),
    [
        ("wrong password", OTHER, OTHER, 401, "wrong-secret"),
        (PASSWORD, OTHER, OTHER + "x", 422, "form-unfit"),
        (PASSWORD, "short", "short", 422, "form-unfit"),
        (PASSWORD, PASSWORD, PASSWORD, 422, "form-unfit"),
    ],
)
async def test_passwords_that_are_not_taken(
    house: tuple[House, Client], old: str, new: str, again: str, status: int, code: str
) -> None:
    visitor = Visitor(house[1])
    await visitor.sign_in("lin")
    change = {"old": old, "new": new, "again": again}
    found = await visitor.ask("POST", "/account/password", change)
    assert (found[0], found[1]["code"]) == (status, code)


async def test_an_admin_can_do_nothing_before_the_second_factor(
    house: tuple[House, Client],
) -> None:
    boss = Visitor(house[1])
    assert (await boss.sign_in("boss"))[0] == 200
    status, found = await boss.ask("GET", "/staff")
    assert (status, found["code"]) == (403, "second-factor-missing")
    await second_factor(house[0], boss)
    assert (await boss.ask("GET", "/staff"))[0] == 200


async def test_the_second_factor_cannot_be_walked_around(house: tuple[House, Client]) -> None:
    made, client = house
    boss, thief = Visitor(client), Visitor(client)
    await boss.sign_in("boss")
    secret = await second_factor(made, boss)
    status, found = await thief.sign_in("boss")
    assert (status, found["code"]) == (401, "code-needed")
    # the browser's way: a session that is good for the code alone
    async with client.post(
        "/login", data={"login": "boss", "password": PASSWORD}, allow_redirects=False
    ) as answer:
        assert answer.headers["Location"] == "/login/second?next=/"
        thief.cookie = answer.cookies["__Host-lz-test"].value
    for method, path in (
        *(("GET", "/staff"), ("GET", "/account"), ("GET", "/account/second"), ("GET", "/live")),
        *(("POST", "/account/second"), ("POST", "/account/password")),
    ):
        status, found = await thief.ask(method, path, {} if method == "POST" else None)
        assert (status, found["code"]) == (401, "code-needed"), path
    assert (await thief.ask("POST", "/login/second", {"code": "000000"}))[0] == 401
    made.later(60_000)
    code = totp_code(secret, made.store.page.now_ms // 30_000)
    assert (await thief.ask("POST", "/login/second", {"code": code}))[0] == 200
    assert (await thief.ask("GET", "/staff"))[0] == 200


async def test_no_code_works_twice(house: tuple[House, Client]) -> None:
    made, client = house
    boss = Visitor(client)
    await boss.sign_in("boss")
    secret = await second_factor(made, boss)
    made.later(60_000)
    code = totp_code(secret, made.store.page.now_ms // 30_000)
    assert (await Visitor(client).sign_in("boss", code=code))[0] == 200
    assert (await Visitor(client).sign_in("boss", code=code))[0] == 401


async def test_a_recovery_code_works_once(house: tuple[House, Client]) -> None:
    made, client = house
    boss = Visitor(client)
    await boss.sign_in("boss")
    _, offer = await boss.ask("GET", "/account/second")
    code = totp_code(offer["secret"], made.store.page.now_ms // 30_000)
    _, done = await boss.ask("POST", "/account/second", {"code": code})
    spare = done["recovery"][3]
    assert spare not in str(stored(made, "boss"))
    assert (await Visitor(client).sign_in("boss", code=spare.upper()))[0] == 200
    assert (await Visitor(client).sign_in("boss", code=spare))[0] == 401
    assert len(stored(made, "boss").secret.recovery) == 7


async def test_codes_cannot_be_tried_through(house: tuple[House, Client]) -> None:
    made, client = house
    boss = Visitor(client)
    await boss.sign_in("boss")
    await second_factor(made, boss)
    found = [await Visitor(client).sign_in("boss", code=f"{n:06d}") for n in range(8)]
    assert [status for status, _ in found][-1] == 429


async def test_guessing_is_slowed_down(house: tuple[House, Client]) -> None:
    visitor = Visitor(house[1])
    found = [(await visitor.sign_in("lin", f"wrong {n}"))[0] for n in range(9)]
    assert found == [401] * 8 + [429]
    assert int(visitor.last["retry-after"]) > 0
    # also for the right password, and for nobody else
    assert (await visitor.sign_in("lin"))[0] == 429
    assert (await visitor.sign_in("boss"))[0] == 200


async def test_nobody_learns_whether_a_login_is_there(house: tuple[House, Client]) -> None:
    known = await Visitor(house[1]).sign_in("lin", "wrong")
    unknown = await Visitor(house[1]).sign_in("nobody", "wrong")
    assert known == unknown


async def test_an_admin_resets_and_the_one_time_password_opens_its_change_alone(
    house: tuple[House, Client],
) -> None:
    made, client = house
    boss, nurse = Visitor(client), Visitor(client)
    await boss.sign_in("boss")
    await second_factor(made, boss)
    await nurse.sign_in("lin")
    key = stored(made, "lin").id
    status, found = await boss.ask("POST", f"/staff/{key}/reset", {})
    assert status == 200
    assert (await nurse.ask("GET", "/account"))[0] == 401
    assert (await nurse.sign_in("lin"))[0] == 401
    assert (await nurse.sign_in("lin", found["password"]))[0] == 200
    status, refused = await nurse.ask("GET", "/live")
    assert (status, refused["code"]) == (403, "password-change-needed")
    change = {"old": found["password"], "new": OTHER, "again": OTHER}
    assert (await nurse.ask("POST", "/account/password", change))[0] == 200
    assert (boss_id := stored(made, "boss").id)
    assert (boss_id, "password-reset", f"account/{key}") in made.store.page.audited


async def test_revocation_ends_it_at_once_and_for_good(house: tuple[House, Client]) -> None:
    made, client = house
    boss, nurse = Visitor(client), Visitor(client)
    await boss.sign_in("boss")
    await second_factor(made, boss)
    await nurse.sign_in("lin")
    key = stored(made, "lin").id
    assert (await boss.ask("POST", f"/staff/{key}/revoke", {}))[0] == 200
    assert (await nurse.ask("GET", "/account"))[0] == 401
    assert (await nurse.sign_in("lin"))[0] == 401
    assert (await boss.ask("POST", f"/staff/{key}/reset", {}))[0] == 404
    own = stored(made, "boss").id
    assert (await boss.ask("POST", f"/staff/{own}/revoke", {}))[0] == 422


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        ({"login": "lin"}, "taken"),
        ({"login": "x y"}, "login"),
        ({"name": " "}, "name"),
        ({"roles": []}, "choose"),
        ({"roles": ["expert"]}, "choose"),
        ({"node": "nabcdefghjkmn"}, "clinic"),
    ],
)
async def test_accounts_that_are_not_made(
    house: tuple[House, Client], wanted: dict[str, object], why: str
) -> None:
    made, client = house
    boss = Visitor(client)
    await boss.sign_in("boss")
    await second_factor(made, boss)
    whole = {"login": "new", "name": "新", "roles": ["nurse"], "node": NODE} | wanted
    status, found = await boss.ask("POST", "/staff", whole)
    assert status == 422
    assert why in found["detail"]
