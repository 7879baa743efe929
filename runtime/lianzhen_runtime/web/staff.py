"""Accounts of other people: made, changed, revoked and reset by an admin, on either side.

A password that is made here is shown once, to be handed over, and opens nothing but the page on
which its owner changes it.
"""

import secrets
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import msgspec
from aiohttp import web

from lianzhen_protocol import accounts
from lianzhen_protocol.accounts import Account, Profile, Role, Secret, Stamp
from lianzhen_protocol.sheets import Sheets

from .errors import NoSuchThing, Unfit
from .login import Doorman
from .once import Act
from .routes import Routes, Visit
from .store import Pen

ADMINS = frozenset({Role.ADMIN})


class Home(NamedTuple):
    """Where accounts may live: a box's node id or "" for the hub, and its name for people."""

    node: str
    name: str


Homes = Callable[[], Awaitable[list[Home]]]


class NewAccount(msgspec.Struct, frozen=True, kw_only=True):
    """An account to make. ``node`` is its home; ``patient`` the patient id of a patient's."""

    login: str
    name: str
    roles: list[Role]
    node: str = ""
    patient: str = ""


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """Name and roles, anew."""

    name: str
    roles: list[Role]


class Reset(msgspec.Struct, frozen=True, kw_only=True):
    """A new password; with ``second`` the second factor goes too (a lost telephone)."""

    second: bool = False


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """An account in a list; nothing of its secret."""

    id: str
    node: str
    home: str
    login: str
    name: str
    roles: tuple[Role, ...]
    status: str
    second: bool
    must_change: bool
    changed_ms: int


def row(account: Account, home: str = "") -> Row:
    """What may be shown of an account."""
    who = account.profile
    return Row(
        id=account.id,
        node=account.node,
        home=home,
        login=who.login,
        name=who.name,
        roles=who.roles,
        status=who.status,
        second=bool(account.secret.totp),
        must_change=account.secret.must_change,
        changed_ms=account.index().at_ms,
    )


class Registry:
    """Makes and changes accounts; what pages and command lines call."""

    def __init__(self, doorman: Doorman, homes: Homes) -> None:
        self.doorman = doorman
        self.homes = homes
        self.store = doorman.console.store

    async def make(
        self, wanted: NewAccount, by: str, password: str = "", act: Act | None = None
    ) -> tuple[Account, str]:
        """A new account and its one-time password; with ``password`` that, for good. No password
        where ``act`` has made it before: it was shown then, and is kept nowhere.

        Unfit for a login that is taken, a home or role that there is not, a weak password.
        """
        profile = _profile(wanted)
        if wanted.node not in {home.node for home in await self.homes()}:
            raise Unfit("there is no such clinic here", "staff.no_home")
        chosen = password or accounts.one_time_password(secrets.token_bytes(10))
        if password and (weak := accounts.weakness(password, profile.login, profile.name)):
            raise Unfit(f"this password is refused: {weak}", f"login.weak_{weak}")
        phc = await self.doorman.passwords.hash(chosen)

        def write(pen: Pen) -> Account:
            _refuse_taken(pen, profile.login, wanted.node)
            stamp = Stamp(pen.now_ms, pen.new_id())
            account = Account(
                id=pen.new_id(),
                node=wanted.node,
                profile=profile,
                secret=Secret(password=phc, must_change=not password),
                profile_stamp=stamp,
                secret_stamp=stamp,
            )
            pen.change(account, by or account.id, "account-made")
            return account

        act = act or Act()
        made = await act.do(self.store.write, write, Account)
        return made, "" if act.again else chosen

    async def reset(self, account: Account, by: str, *, second: bool) -> str:
        """A new one-time password; every session of the account ends."""
        chosen = accounts.one_time_password(secrets.token_bytes(10))
        phc = await self.doorman.passwords.hash(chosen)
        changes: dict[str, object] = {"password": phc, "must_change": True}
        if second:
            changes |= {"totp": "", "recovery": ()}

        def write(pen: Pen) -> None:
            known = _known(pen, account.id)
            changed = known.with_secret(pen.now_ms, pen.new_id(), **changes)
            pen.change(changed, by, "password-reset")

        await self.store.write(write)
        self.doorman.console.live.wake()
        return chosen

    async def revoke(self, account: Account, by: str, act: Act | None = None) -> None:
        """For good; every session of the account ends."""

        def write(pen: Pen) -> None:
            known = _known(pen, account.id)
            changed = known.with_profile(pen.now_ms, pen.new_id(), status=accounts.REVOKED)
            pen.change(changed, by, "account-revoked")

        await (act or Act()).do(self.store.write, write, type(None))
        self.doorman.console.live.wake()

    async def change(
        self, account: Account, wanted: Change, by: str, act: Act | None = None
    ) -> None:
        """Other roles or another name; Unfit for a role that its home does not have."""
        roles = _roles(wanted.roles, account.node)

        def write(pen: Pen) -> None:
            known = _known(pen, account.id)
            changed = known.with_profile(
                pen.now_ms, pen.new_id(), name=_name(wanted.name), roles=roles
            )
            pen.change(changed, by, "account-changed")

        await (act or Act()).do(self.store.write, write, type(None))
        self.doorman.console.live.wake()

    async def named(self, login: str, node: str) -> Account:
        """The active account of a home with this login; NoSuchThing."""
        found = await self.store.read(lambda sheets: sheets.find_token(Account, "login", login))
        for account in found:
            if account.node == node and account.active:
                return account
        raise NoSuchThing(f"there is no active account {login!r} here")


def routes(registry: Registry) -> Routes:
    """The admin's pages about the accounts of the registry's homes."""
    found = Routes()
    homes = registry.homes
    found.entry("/staff", "staff.title", roles=ADMINS, order=80)

    async def theirs(visit: Visit) -> Account:
        """The account in the path, if it lives where this admin rules."""
        key = visit.match("id")
        account = await registry.store.read(lambda sheets: sheets.get(Account, key))
        if account is None or account.node not in {home.node for home in await homes()}:
            raise NoSuchThing("there is no such account")
        return account

    @found.get("/staff", roles=ADMINS)
    async def everybody(visit: Visit) -> web.Response:
        rows = await _rows(registry, await homes())
        return visit.page("staff/list.html", people=rows)

    @found.get("/staff/new", roles=ADMINS)
    async def ask(visit: Visit) -> web.Response:
        places = await homes()
        return visit.page("staff/new.html", homes=places, roles=_possible(places), wrong="")

    @found.post("/staff", roles=ADMINS)
    async def make(visit: Visit) -> web.Response:
        wanted = await visit.form(NewAccount)
        try:
            act = await visit.act()
            account, password = await registry.make(wanted, visit.actor.id, act=act)
        except Unfit as error:
            if visit.wants_json:
                raise
            sentence = visit.t(error.word) if error.word else str(error)
            places = await homes()
            roles = _possible(places)
            return visit.page(
                "staff/new.html", status=422, homes=places, roles=roles, wrong=sentence
            )
        if not password:
            return visit.see_other(f"/staff/{account.id}", id=account.id)
        return _handed_over(visit, account, password)

    @found.get("/staff/{id}", roles=ADMINS)
    async def one(visit: Visit) -> web.Response:
        account = await theirs(visit)
        allowed = accounts.CLINIC_ROLES if account.node else accounts.HUB_ROLES
        return visit.page("staff/one.html", person=row(account), allowed=sorted(allowed))

    @found.post("/staff/{id}", roles=ADMINS)
    async def change(visit: Visit) -> web.Response:
        account, wanted = await theirs(visit), await visit.form(Change)
        await registry.change(account, wanted, visit.actor.id, await visit.act())
        return visit.see_other(f"/staff/{account.id}", id=account.id)

    @found.post("/staff/{id}/reset", roles=ADMINS)
    async def reset(visit: Visit) -> web.Response:
        account, wanted = await theirs(visit), await visit.form(Reset)
        password = await registry.reset(account, visit.actor.id, second=wanted.second)
        return _handed_over(visit, account, password)

    @found.post("/staff/{id}/revoke", roles=ADMINS)
    async def revoke(visit: Visit) -> web.Response:
        account = await theirs(visit)
        if account.id == visit.actor.id:
            raise Unfit("nobody revokes their own account; ask another admin")
        await registry.revoke(account, visit.actor.id, await visit.act())
        return visit.see_other("/staff")

    return found


def _possible(homes: list[Home]) -> list[Role]:
    """Roles that one of these homes has, in the order in which people think of them."""
    sets = [accounts.CLINIC_ROLES if home.node else accounts.HUB_ROLES for home in homes]
    return [role for role in Role if any(role in allowed for allowed in sets)]


async def _rows(registry: Registry, homes: list[Home]) -> list[Row]:
    def collect(sheets: Sheets) -> list[Row]:
        return [
            row(account, home.name)
            for home in homes
            for account in sheets.find(Account, owner=home.node)
        ]

    return sorted(await registry.store.read(collect), key=lambda one: (one.node, one.login))


def _handed_over(visit: Visit, account: Account, password: str) -> web.Response:
    return visit.page(
        "staff/password.html", id=account.id, login=account.profile.login, password=password
    )


def _profile(wanted: NewAccount) -> Profile:
    try:
        login = accounts.login_name(wanted.login)
    except ValueError as error:
        raise Unfit(str(error), "staff.bad_login") from error
    return Profile(
        login=login,
        name=_name(wanted.name),
        roles=_roles(wanted.roles, wanted.node),
        patient=wanted.patient,
    )


def _name(text: str) -> str:
    name = text.strip()
    if not 1 <= len(name) <= 64:
        raise Unfit("a name has 1 to 64 signs", "staff.bad_name")
    return name


def _roles(wanted: list[Role], node: str) -> tuple[Role, ...]:
    allowed = accounts.CLINIC_ROLES if node else accounts.HUB_ROLES
    if not wanted or not allowed.issuperset(wanted):
        raise Unfit(f"choose among {', '.join(sorted(allowed))}", "staff.bad_roles")
    return tuple(sorted(set(wanted)))


def _refuse_taken(sheets: Sheets, login: str, node: str) -> None:
    for other in sheets.find_token(Account, "login", login):
        if other.node == node:
            raise Unfit("this login is taken, also if its account is revoked", "staff.taken")


def _known(pen: Pen, key: str) -> Account:
    account = pen.get(Account, key)
    if account is None or not account.active:
        raise NoSuchThing("this account is revoked, or was never there")
    return account
