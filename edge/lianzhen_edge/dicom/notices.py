"""What the scp tells the core: beside the associations, and until it has heard."""

import http.client
import queue
import threading
import time
from pathlib import Path
from typing import Final, Protocol

import msgspec

from lianzhen_runtime import log
from lianzhen_runtime.retry import pause
from lianzhen_runtime.unix import UnixConnection

from .arrival import Called, Kept
from .core import SECONDS

_WAITING_NOTICES: Final = 1000
_TOLD_TOGETHER: Final = 64
_GATHER_SECONDS: Final = 0.05
_log = log.Log("lianzhen.scp")


class Ear(Protocol):
    """Who is told."""

    def tell(self, notice: Kept | Called) -> None:
        """Say it soon, without waiting for an answer."""


class Notices:
    """Tells the core, beside the associations, until it has heard; what dies with us is found by
    the core's scan after our death. Images that come in quick succession are told together.
    """

    def __init__(self, control: Path) -> None:
        self._control = control
        self._queue: queue.Queue[Kept | Called] = queue.Queue(_WAITING_NOTICES)
        self._connection: UnixConnection | None = None
        threading.Thread(target=self._run, name="notices", daemon=True).start()

    def tell(self, notice: Kept | Called) -> None:
        """Say it soon; drop it if nobody has listened for a while."""
        try:
            self._queue.put_nowait(notice)
        except queue.Full:
            _log.transition("core", "does not listen", bad=True)

    def _run(self) -> None:
        while True:
            kept, called = self._next()
            if kept:
                self._say("/dicom/kept", msgspec.json.encode(kept))
            if called is not None:
                self._say("/dicom/called", msgspec.json.encode(called))

    def _next(self) -> tuple[list[Kept], Called | None]:
        """Images up to the next caller, and he."""
        kept = list[Kept]()
        first = self._queue.get()
        if isinstance(first, Called):
            return kept, first
        kept.append(first)
        time.sleep(_GATHER_SECONDS)
        while len(kept) < _TOLD_TOGETHER:
            try:
                notice = self._queue.get_nowait()
            except queue.Empty:
                break
            if isinstance(notice, Called):
                return kept, notice
            kept.append(notice)
        return kept, None

    def _say(self, target: str, body: bytes) -> None:
        attempt = 0
        while not self._heard(target, body):
            _log.transition("core", "does not listen", bad=True)
            time.sleep(pause(attempt, base=0.1, cap=2.0))
            attempt += 1
        _log.transition("core", "listens")

    def _heard(self, target: str, body: bytes) -> bool:
        try:
            self._connection = self._connection or UnixConnection(self._control, SECONDS)
            self._connection.request("POST", target, body)
            answer = self._connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException):
            self._connection = None
            return False
        return answer.status < 500  # it is starting, or its disk is full
