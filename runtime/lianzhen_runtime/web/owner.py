"""Accounts for the machine's owner, over its private socket and its command line.

Whoever may open the socket can read the keys as well, so there is nothing more to prove; the
audit log calls them ``owner``.
"""

import argparse
from collections.abc import Callable
from typing import Any

import msgspec
from aiohttp import web

from lianzhen_protocol.accounts import Account, Role
from lianzhen_protocol.sheets import Sheets
from lianzhen_runtime.problems import json_answer

from .staff import NewAccount, Registry, Reset, row

OWNER = "owner"
Ask = Callable[..., Any]


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


def add_verbs(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]", *, homes: bool) -> None:
    """The verbs ``account`` and ``reset-password``; with ``homes`` those of clinics too."""
    account = verbs.add_parser("account", help="accounts: add, list, revoke")
    what = account.add_subparsers(dest="what", required=True, metavar="WHAT")
    add = what.add_parser("add", help="make one, and print its one-time password")
    add.add_argument("login")
    add.add_argument("--name", required=True)
    add.add_argument("--role", dest="roles", action="append", required=True, choices=list(Role))
    add.add_argument("--patient", default="", help="patient id, for a patient's account")
    everybody = what.add_parser("list", help="everybody, without secrets")
    everybody.add_argument("--json", action="store_true")
    revoke = what.add_parser("revoke", help="for good; ends every session")
    revoke.add_argument("login")
    reset = verbs.add_parser("reset-password", help="a new one-time password, printed")
    reset.add_argument("login")
    reset.add_argument("--second", action="store_true", help="remove the second factor as well")
    if homes:
        for verb in (add, everybody, revoke, reset):
            verb.add_argument("--node", default="", help="a box, for accounts of its clinic")


def lines(options: argparse.Namespace, ask: Ask) -> list[str]:
    """Do one of these verbs; what to print. ``ask(method, path, **more)`` asks the program."""
    node = getattr(options, "node", "")
    params = {"node": node} if node else {}
    if options.verb == "reset-password":
        path = f"/accounts/{options.login}/reset"
        found = ask("POST", path, params=params, json={"second": options.second})
        return [found["password"]]
    match options.what:
        case "add":
            wanted = {
                key: getattr(options, key) for key in ("login", "name", "roles", "patient")
            } | {"node": node}
            return [ask("POST", "/accounts", json=wanted)["password"]]
        case "revoke":
            ask("POST", f"/accounts/{options.login}/revoke", params=params)
            return [f"{options.login} is revoked, and signed out everywhere"]
        case _:
            return [_line(one) for one in ask("GET", "/accounts", params=params)]


def _line(one: dict[str, Any]) -> str:
    second = "second factor" if one["second"] else ""
    return (
        f"{one['login']:20} {one['status']:8} {'+'.join(one['roles']):20} {one['name']}  {second}"
    )
