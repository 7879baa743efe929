"""Expert profiles: who may be asked for what, kept by an admin."""

from typing import Annotated, Final

import msgspec
from aiohttp import web

from lianzhen_hub.consultations.assignment import MOST, standings
from lianzhen_hub.consultations.inbox import clinic_names
from lianzhen_hub.hub import Hub
from lianzhen_hub.page import HubPage
from lianzhen_hub.store.sheets import HubSheets
from lianzhen_protocol.accounts import Account, Actor, Role
from lianzhen_protocol.departments import DEPARTMENTS
from lianzhen_protocol.matching import Expert, Licence, Title
from lianzhen_runtime.errors import LianzhenError
from lianzhen_runtime.web.routes import Routes, Visit

ADMINS: Final = frozenset({Role.ADMIN})


class NoSuchExpert(LianzhenError):
    """There is no account with this id that is an expert's."""

    code = "expert-unknown"
    http_status = 404


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """What an admin says of an expert. ``icd``: prefixes, separated by blanks or commas."""

    title: Title
    licence: Licence = Licence.VALID
    licence_number: Annotated[str, msgspec.Meta(max_length=64)] = ""
    departments: list[str] = []
    icd: Annotated[str, msgspec.Meta(max_length=400)] = ""
    own_nodes: list[str] = []
    on_leave: bool = False
    capacity: Annotated[int, msgspec.Meta(ge=1, le=100)] = 5


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """An expert's account, the profile if there is one, and how they are placed now."""

    id: str
    name: str
    login: str
    expert: Expert | None
    online: bool
    load: int


class UnknownDepartment(LianzhenError):
    """A code that stands in no list."""

    code = "department-unknown"
    http_status = 422


def routes(hub: Hub) -> Routes:
    """Everything of this area."""
    found, pages = Routes(), _Pages(hub)
    found.entry("/experts", "experts.title", roles=ADMINS, order=30)
    found.get("/experts", roles=ADMINS)(pages.all)
    found.get("/experts/{id}", roles=ADMINS)(pages.one)
    found.post("/experts/{id}", roles=ADMINS)(pages.save)
    return found


class _Pages:
    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    async def all(self, visit: Visit) -> web.StreamResponse:
        online = self._hub.presence.online()
        rows = await self._hub.consult(lambda sheets: _rows(sheets, online))
        return visit.page("experts/list.html", experts=rows, departments=DEPARTMENTS)

    async def one(self, visit: Visit) -> web.StreamResponse:
        identity = visit.match("id")

        def look(sheets: HubSheets) -> tuple[Account, Expert | None, dict[str, str]]:
            return _account(sheets, identity), sheets.get(Expert, identity), clinic_names(sheets)

        account, expert, clinics = await self._hub.consult(look)
        return visit.page(
            "experts/one.html",
            id=identity,
            name=account.profile.name,
            expert=expert,
            departments=DEPARTMENTS,
            clinics=clinics,
            titles=list(Title),
            licences=list(Licence),
        )

    async def save(self, visit: Visit) -> web.StreamResponse:
        identity, actor, wanted = visit.match("id"), visit.actor, await visit.form(Profile)
        if unknown := set(wanted.departments) - DEPARTMENTS.keys():
            raise UnknownDepartment(f"no such department: {', '.join(sorted(unknown))[:80]}")
        await visit.once(
            self._hub.transact, lambda page: _save(page, actor, identity, wanted), type(None)
        )
        return visit.see_other("/experts", id=identity)


def _rows(sheets: HubSheets, online: frozenset[str]) -> list[Row]:
    placed = {expert.id: (expert, standing) for expert, standing in standings(sheets, online)}
    found = []
    for account in sheets.find(Account, limit=MOST):
        if Role.EXPERT in account.profile.roles and account.active:
            expert, standing = placed.get(account.id, (None, None))
            found.append(
                Row(
                    id=account.id,
                    name=account.profile.name,
                    login=account.profile.login,
                    expert=expert,
                    online=account.id in online,
                    load=standing.load if standing else 0,
                )
            )
    return found


def _account(sheets: HubSheets, identity: str) -> Account:
    account = sheets.get(Account, identity)
    if account is None or Role.EXPERT not in account.profile.roles:
        raise NoSuchExpert("there is no expert's account with that id")
    return account


def _save(page: HubPage, actor: Actor, identity: str, wanted: Profile) -> None:
    account = _account(page, identity)
    prefixes = tuple(wanted.icd.upper().replace(",", " ").replace("，", " ").split())
    page.put(
        Expert(
            id=identity,
            name=account.profile.name,
            title=wanted.title,
            licence=wanted.licence,
            licence_number=wanted.licence_number.strip(),
            departments=tuple(wanted.departments),
            icd=prefixes,
            own_nodes=tuple(wanted.own_nodes),
            on_leave=wanted.on_leave,
            capacity=wanted.capacity,
            at_ms=page.now_ms,
        )
    )
    page.audit(actor.id, "change", f"account/{identity}")
