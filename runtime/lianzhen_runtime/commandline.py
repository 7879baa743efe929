"""What both command lines do alike: configuration, one sentence for an error, asking a socket."""

import argparse
import http.client
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode

import msgspec

from lianzhen_protocol.errors import ProtocolError

from .config import Section, load
from .errors import LianzhenError, Unavailable
from .unix import UnixConnection


class Refused(LianzhenError):
    """The program answered, and will not do it; ``code`` is its problem's."""


class RefusedForNow(Refused):
    """The same with a status of 500 or more: it may do it later."""


Settings = TypeVar("Settings", bound=Section)


def common_options(parser: argparse.ArgumentParser, version: str, default: Path) -> None:
    """--version, --config and --state."""
    parser.add_argument("--version", action="version", version=version)
    parser.add_argument("--config", type=Path, help=f"configuration file ({default})")
    parser.add_argument("--state", help="state folder, instead of the configuration's")


def settings_of(options: argparse.Namespace, default: Path, kind: type[Settings]) -> Settings:
    """The configuration that the options name. ConfigError for one that cannot be used."""
    found = load(options.config or (default if default.exists() else None), kind)
    return msgspec.structs.replace(found, state=options.state) if options.state else found


def in_one_sentence(name: str, verb: Callable[[], int]) -> int:
    """Do a verb; the exit status. Errors of ours are one sentence on standard error."""
    try:
        return verb()
    except (LianzhenError, ProtocolError) as error:
        print(f"{name}: {error}", file=sys.stderr)  # noqa: T201 - the one sentence
        return getattr(error, "exit_status", 2)
    except KeyboardInterrupt:
        return 130


def ask(
    program: str,
    socket: Path,
    method: str,
    path: str,
    *,
    params: Mapping[str, str] | None = None,
    body: object = None,
    seconds: float | None = 300.0,
) -> Any:
    """One request to a running program's own socket; its JSON. ``body`` is sent as JSON, or as it
    is if it is bytes; ``seconds`` (None: for ever) is how long each part of an answer may take.

    Unavailable if nobody answers there, Refused or RefusedForNow with the program's sentence.
    """
    target = f"{path}?{urlencode(params)}" if params else path
    content = body if isinstance(body, bytes | None) else msgspec.json.encode(body)
    connection = UnixConnection(socket, seconds)
    try:
        connection.request(method, target, content)
        answer = connection.getresponse()
        found = msgspec.json.decode(answer.read())
    except (OSError, http.client.HTTPException) as error:
        raise Unavailable(f"nobody answers on {socket}; is '{program} run' running?") from error
    finally:
        connection.close()
    if answer.status < 400:
        return found
    kind = RefusedForNow if answer.status >= 500 else Refused
    raise kind(found["detail"], code=found["code"])


def pretty(value: Any) -> str:
    """JSON for people."""
    return msgspec.json.format(msgspec.json.encode(value)).decode()
