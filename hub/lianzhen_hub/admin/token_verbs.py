"""``lianzhen-hub token``: access tokens of DICOMweb clients, at the command line."""

import argparse
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any


def add_to(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """The verb ``token``."""
    token = verbs.add_parser("token", help="access tokens of DICOMweb clients")
    what = token.add_subparsers(dest="what", required=True, metavar="WHAT")
    new = what.add_parser("new", help="make one, and print it once")
    new.add_argument("login")
    new.add_argument("--hours", type=int, default=8, help="how long it is good for, 24 at most")
    what.add_parser("list", help="those that are good now; their ids open nothing")
    revoke = what.add_parser("revoke", help="it opens nothing any more")
    revoke.add_argument("id", help="as the list says")


def lines(options: argparse.Namespace, ask: Callable[..., Any]) -> Iterator[str]:
    """Do it, and what to print."""
    match options.what:
        case "new":
            body = {"login": options.login, "hours": options.hours}
            yield ask("POST", "/tokens", body=body)["token"]
        case "list":
            for row in ask("GET", "/tokens"):
                ends = datetime.fromtimestamp(row["ends_ms"] / 1000, UTC)
                yield f"{row['id']}  {row['login']:16} until {ends.isoformat(' ', 'seconds')}"
        case _:
            ask("POST", f"/tokens/{options.id}/revoke")
            yield f"{options.id} opens nothing any more"
