"""Accounts for the machine's owner, over its private socket (``owner_verbs`` asks there).

Whoever may open the socket can read the keys as well, so there is nothing more to prove; the
audit log calls them ``owner``.
"""

from collections.abc import Callable

import msgspec
from aiohttp import web

from lianzhen_protocol.accounts import Account
from lianzhen_protocol.sheets import Sheets
from lianzhen_runtime.problems import json_answer

from .staff import NewAccount, Registry, Reset, row

OWNER = "owner"


class HandedOver(msgspec.Struct, frozen=True, kw_only=True):
    """A one-time password, for its owner to change."""

    id: str
    login: str
    password: str


def routes(registry: Callable[[], Registry], home: Callable[[], str]) -> list[web.RouteDef]:
    """The accounts of this machine's own home, or of the one that ``?node=`` names."""

    def place(request: web.Request) -> str:
        return request.query.get("node", home())

    async def everybody(request: web.Request) -> web.Response:
        def collect(sheets: Sheets) -> list[Account]:
            return sheets.find(Account, owner=place(request))

        found = await registry().store.read(collect)
        return json_answer([row(account) for account in found])

    async def make(request: web.Request) -> web.Response:
        wanted = msgspec.json.decode(await request.read(), type=NewAccount)
        wanted = msgspec.structs.replace(wanted, node=wanted.node or home())
        account, password = await registry().make(wanted, OWNER)
        login = account.profile.login
        return json_answer(HandedOver(id=account.id, login=login, password=password), 201)

    async def reset(request: web.Request) -> web.Response:
        wanted = msgspec.json.decode(await request.read(), type=Reset)
        account = await registry().named(request.match_info["login"], place(request))
        password = await registry().reset(account, OWNER, second=wanted.second)
        login = account.profile.login
        return json_answer(HandedOver(id=account.id, login=login, password=password))

    async def revoke(request: web.Request) -> web.Response:
        account = await registry().named(request.match_info["login"], place(request))
        await registry().revoke(account, OWNER)
        return json_answer(row(account))

    return [
        web.get("/accounts", everybody),
        web.post("/accounts", make),
        web.post("/accounts/{login}/reset", reset),
        web.post("/accounts/{login}/revoke", revoke),
    ]
