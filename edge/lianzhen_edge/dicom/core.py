"""Asking the core: what only it knows is behind its control socket, one question a connection."""

import http.client
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from lianzhen_runtime.unix import UnixConnection

from .dimse import PROCESSING_FAILURE, Refusal

SECONDS: Final = 30.0
"""For an answer of the core."""
_Answer = TypeVar("_Answer")


class _Problem(msgspec.Struct):
    code: str = ""
    detail: str = ""


class CoreRefused(Exception):
    """The core does not do it; ``code`` is its reason."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status, self.code = status, code


class CoreAway(Refusal):
    """Nobody answers there: it starts, or its disk is full. Whoever asked may ask again."""

    def __init__(self) -> None:
        super().__init__(PROCESSING_FAILURE, "the box is starting or full: ask again")


class Core:
    """Any thread."""

    def __init__(self, control: Path) -> None:
        self._control = control

    def ask(self, target: str, kind: type[_Answer], said: object = None) -> _Answer:
        """GET, or POST of ``said`` as JSON; CoreRefused if it will not, CoreAway if it cannot."""
        connection = UnixConnection(self._control, SECONDS)
        try:
            method = "GET" if said is None else "POST"
            connection.request(method, target, None if said is None else msgspec.json.encode(said))
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise CoreAway from error
        finally:
            connection.close()
        if answer.status >= 500:
            raise CoreAway
        if answer.status >= 400:
            problem = msgspec.json.decode(body, type=_Problem)
            raise CoreRefused(answer.status, problem.code, problem.detail)
        return msgspec.json.decode(body, type=kind)
