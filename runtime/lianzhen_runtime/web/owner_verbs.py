"""The command line's verbs for accounts; ``owner`` answers them in the running program."""

import argparse
from collections.abc import Callable
from typing import Any

from lianzhen_protocol.accounts import Role

Ask = Callable[..., Any]


def add_to(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]", *, homes: bool) -> None:
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
        found = ask("POST", path, params=params, body={"second": options.second})
        return [found["password"]]
    match options.what:
        case "add":
            wanted = {
                key: getattr(options, key) for key in ("login", "name", "roles", "patient")
            } | {"node": node}
            return [ask("POST", "/accounts", body=wanted)["password"]]
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
