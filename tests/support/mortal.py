"""Runs one of our programs, and lets it die at a boundary of its own work: SIGKILL, by itself.

::

    python mortal.py SLATE lianzhen-edge --config ... run

A *slate* is a file that the program and a test both map: for each boundary how often the program
has passed it, and at which passing it dies. So a test counts an undisturbed run, and then lets a
running program die at any of these places without starting it anew. The boundaries are those of
the libraries that our programs stand on, and nothing of the product knows of them. A box's DICOM
child dies by a slate of its own (``SLATE.scp``).
"""

import functools
import mmap
import os
import signal
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

_MESSAGES: Final = ("hello", "ack", "stream")
WRITES: Final = ("write", "send", "dimse")
OPERATIONS: Final = (
    *WRITES,
    *("sync", "rename", "commit", "answer", "ask", "hear dimse", "notice"),
    *(f"{verb} {message}" for verb in ("publish", "hear") for message in _MESSAGES),
)
"""``write``, ``sync`` and ``rename`` of files; ``commit`` of a database; ``send`` to the broker's
socket, ``dimse`` to a modality's; ``hear dimse`` of a piece from there; ``answer`` to an HTTP
request, ``ask`` of one; ``notice`` of an image to the core; messages."""

BOUNDARIES: Final = (
    *(f"{operation}: {moment}" for operation in OPERATIONS for moment in ("before", "after")),
    *(f"{operation}: half" for operation in WRITES),
)
_INDEX: Final = {name: number for number, name in enumerate(BOUNDARIES)}
_BYTES: Final = 16 * len(BOUNDARIES)
CHILD: Final = ".scp"
_SECTOR: Final = 512


class Slate:
    """The file as both sides see it; made empty if it is not there."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(_BYTES))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), _BYTES)
        self._cells = memoryview(self._map).cast("q")

    def close(self) -> None:
        """Let go of the file."""
        self._cells.release()
        self._map.close()

    # -- the test's side

    def passed(self, boundary: str) -> int:
        """How often, in all lives of the program together."""
        return self._cells[2 * _INDEX[boundary]]

    def arm(self, boundary: str, passing: int) -> None:
        """The program dies at the ``passing``-th passing from now."""
        at = 2 * _INDEX[boundary]
        self._cells[at + 1] = self._cells[at] + passing

    def disarm(self) -> None:
        """It does not."""
        for number in range(len(BOUNDARIES)):
            self._cells[2 * number + 1] = 0

    # -- the program's side

    def is_due(self, boundary: str) -> bool:
        """Count a passing; True if it is the last."""
        at = 2 * _INDEX[boundary]
        self._cells[at] += 1
        return 0 < self._cells[at + 1] <= self._cells[at]

    def die(self) -> None:
        """Nothing of this program happens after this."""
        self.disarm()
        os.kill(os.getpid(), signal.SIGKILL)

    def passes(self, boundary: str) -> None:
        """Die here, if it is time."""
        if self.is_due(boundary):
            self.die()

    def around(self, owner: Any, name: str, operation: str) -> None:
        """Two boundaries around a function."""
        wrapped = getattr(owner, name)

        @functools.wraps(wrapped)
        def call(*args: Any, **kwargs: Any) -> Any:
            self.passes(f"{operation}: before")
            result = wrapped(*args, **kwargs)
            self.passes(f"{operation}: after")
            return result

        setattr(owner, name, call)

    def around_later(self, owner: Any, name: str, operation: str, moments: str) -> None:
        """The same for a coroutine function; ``moments`` may be one of the two alone."""
        wrapped = getattr(owner, name)

        @functools.wraps(wrapped)
        async def call(*args: Any, **kwargs: Any) -> Any:
            if "before" in moments:
                self.passes(f"{operation}: before")
            result = await wrapped(*args, **kwargs)
            if "after" in moments:
                self.passes(f"{operation}: after")
            return result

        setattr(owner, name, call)

    def around_write(self, owner: Any, name: str, operation: str, content: int) -> None:
        """The same for what writes bytes, its argument number ``content``: it may tear too."""
        wrapped = getattr(owner, name)

        @functools.wraps(wrapped)
        def call(*args: Any, **kwargs: Any) -> Any:
            self.passes(f"{operation}: before")
            if self.is_due(f"{operation}: half"):
                half = memoryview(args[content])[: _half(len(args[content]))]
                wrapped(*args[:content], half, *args[content + 1 :], **kwargs)
                self.die()
            result = wrapped(*args, **kwargs)
            self.passes(f"{operation}: after")
            return result

        setattr(owner, name, call)


def _half(size: int) -> int:
    """In whole sectors, as what goes past the page cache is written."""
    return size // 2 if size < 2 * _SECTOR else size // 2 // _SECTOR * _SECTOR


def _sqlite(slate: Slate) -> None:
    class Mortal(sqlite3.Connection):
        def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
            if sql != "COMMIT":
                return super().execute(sql, *args)
            slate.passes("commit: before")
            done = super().execute(sql)
            slate.passes("commit: after")
            return done

        def commit(self) -> None:
            slate.passes("commit: before")
            super().commit()
            slate.passes("commit: after")

    connect = sqlite3.connect

    def mortal(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        return connect(*args, factory=Mortal, **kwargs)

    for module in (sqlite3, sqlite3.dbapi2):
        setattr(module, "connect", mortal)  # noqa: B010 - a function that is replaced


def _messages(slate: Slate) -> None:
    from lianzhen_runtime import mqtt

    def around(name: str, verb: str, topic_of: Callable[..., str]) -> None:
        wrapped = getattr(mqtt.Session, name)

        def call(*args: Any) -> Any:
            channel = topic_of(*args).split("/")[4:5]
            message = channel[0] if channel and channel[0] in _MESSAGES else None
            if message:
                slate.passes(f"{verb} {message}: before")
            result = wrapped(*args)
            if message:
                slate.passes(f"{verb} {message}: after")
            return result

        setattr(mqtt.Session, name, call)

    around("publish", "publish", lambda _self, topic, _payload: topic)
    around("_received", "hear", lambda _self, _client, _data, message: message.topic)


def _dicom(slate: Slate) -> None:
    from http.client import HTTPConnection, HTTPResponse

    from lianzhen_edge.dicom.wire import Wire

    slate.around_write(Wire, "send", "dimse", 1)
    slate.around(Wire, "fill", "hear dimse")
    request, read = HTTPConnection.request, HTTPResponse.read

    def tell(*args: Any, **kwargs: Any) -> None:
        slate.passes("notice: before")
        request(*args, **kwargs)

    def heard(*args: Any) -> bytes:
        found = read(*args)
        slate.passes("notice: after")
        return found

    setattr(HTTPConnection, "request", tell)  # noqa: B010 - functions that are replaced
    setattr(HTTPResponse, "read", heard)  # noqa: B010


def _libraries(slate: Slate) -> None:
    """Set the boundaries that every program has."""
    import ssl

    import aiohttp
    from aiohttp import web

    slate.around_write(os, "write", "write", 1)
    slate.around_write(os, "pwrite", "write", 1)
    for name in ("fsync", "fdatasync"):
        slate.around(os, name, "sync")
    for name in ("rename", "replace"):
        slate.around(os, name, "rename")
    slate.around_write(ssl.SSLSocket, "send", "send", 1)
    _sqlite(slate)
    _messages(slate)
    slate.around_later(web.StreamResponse, "prepare", "answer", "before")
    slate.around_later(web.StreamResponse, "write_eof", "answer", "after")
    slate.around_later(aiohttp.ClientSession, "_request", "ask", "before after")


def _set_boundaries(slate: Slate, program: str, is_scp: bool) -> None:
    _libraries(slate)
    if is_scp:
        _dicom(slate)
    if program == "lianzhen-hub":
        import psycopg

        slate.around(psycopg.Connection, "commit", "commit")


def _children_too(path: str) -> None:
    """Let a program start its children through us."""
    from lianzhen_runtime import child

    def command(module: str, *arguments: str) -> list[str]:
        return [sys.executable, __file__, path, module.replace("_", "-"), *arguments]

    child.own_command = command


def main() -> None:
    """Set the boundaries and become the program."""
    path, sys.argv = sys.argv[1], sys.argv[2:]
    program = Path(sys.argv[0]).name
    is_scp = "scp" in sys.argv
    if is_scp or "run" in sys.argv:
        _set_boundaries(Slate(Path(path + CHILD if is_scp else path)), program, is_scp)
        _children_too(path)
    if program == "lianzhen-hub":
        from lianzhen_hub.main import main as run
    else:
        from lianzhen_edge.main import main as run
    run()


if __name__ == "__main__":
    main()
