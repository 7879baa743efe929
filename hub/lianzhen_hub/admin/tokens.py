"""Access tokens of DICOMweb clients, on the admin's door."""

from typing import Final

import msgspec
from aiohttp import web

from lianzhen_hub.dicomweb import tokens
from lianzhen_hub.hub import Hub
from lianzhen_runtime.problems import json_answer
from lianzhen_runtime.web.staff import Registry

_BY: Final = "admin"


class NewToken(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """For whom, and for how long."""

    login: str
    hours: tokens.Hours = 8


def routes(hub: Hub, registry: Registry) -> list[web.RouteDef]:
    """On the admin's door."""

    async def issue(request: web.Request) -> web.Response:
        wanted = msgspec.json.decode(await request.read(), type=NewToken)
        account = await registry.named(wanted.login, "")
        token = await hub.transact(lambda page: tokens.issue(page, account, wanted.hours, _BY))
        return json_answer({"token": token, "login": wanted.login, "hours": wanted.hours}, 201)

    async def everyone(_request: web.Request) -> web.Response:
        now_ms = hub.now_ms()
        return json_answer(await hub.consult(lambda sheets: tokens.listed(sheets, now_ms)))

    async def revoke(request: web.Request) -> web.Response:
        start = request.match_info["id"]
        await hub.transact(lambda page: tokens.revoke(page, start, _BY))
        return json_answer({"done": True})

    return [
        web.post("/tokens", issue),
        web.get("/tokens", everyone),
        web.post("/tokens/{id}/revoke", revoke),
    ]
