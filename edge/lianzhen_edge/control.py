"""How people and programs on the box speak to it: a socket for its owner, a port for probes.

The Unix socket (mode 0600 in a private folder) takes records and claims and shows status; the
loopback port answers /health and /metrics and changes nothing.
"""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
from aiohttp import web

from lianzhen_protocol import claims
from lianzhen_protocol.frame import MAX_PLAIN_BYTES
from lianzhen_protocol.identity import record_id
from lianzhen_runtime.errors import LianzhenError
from lianzhen_runtime.http import probes, serving
from lianzhen_runtime.problems import json_answer, problems
from lianzhen_runtime.web import owner

from .box import Box
from .clinic.app import Clinic
from .dicom import doors as dicom
from .dicom import service_doors

MAX_BODY_BYTES = 4 * MAX_PLAIN_BYTES
_entries = msgspec.msgpack.Decoder(list[bytes])


class NoSuchItem(LianzhenError):
    """The journal never had a record with this id."""

    code = "item-unknown"
    http_status = 404


@contextlib.asynccontextmanager
async def control(box: Box, clinic: Clinic, socket: Path, port: int) -> AsyncIterator[None]:
    """Serve both doors for the length of a block."""
    async with (
        serving(_owner(box, clinic), path=socket),
        serving(probes(box.health, box.metrics), host="127.0.0.1", port=port),
    ):
        yield


def _owner(box: Box, clinic: Clinic) -> web.Application:
    app = web.Application(middlewares=[problems], client_max_size=MAX_BODY_BYTES)

    async def put(request: web.Request) -> web.Response:
        """Body: msgpack array of encoded records. 201 when they are on the disk."""
        entries = _entries.decode(await request.read())
        placed = await box.journal.put(request.query.get("stream", ""), entries)
        return json_answer(placed, 201)

    async def status(_request: web.Request) -> web.Response:
        return json_answer(box.status())

    async def item(request: web.Request) -> web.Response:
        try:
            identity = record_id(bytes.fromhex(request.match_info["id"]))
        except ValueError as error:
            raise NoSuchItem("a record id is 32 hexadecimal digits") from error
        found = box.item(identity)
        if found is None:
            raise NoSuchItem("this box has no record with that id")
        return json_answer(found)

    async def claim(request: web.Request) -> web.Response:
        box.claim(claims.parse(await request.text()))
        return json_answer(box.status(), 202)

    app.add_routes(
        [
            web.post("/records", put),
            web.get("/status", status),
            web.get("/items/{id}", item),
            web.post("/claim", claim),
            *dicom.routes(lambda: box.imaging),
            *service_doors.routes(box),
            *owner.routes(lambda: clinic.registry, lambda: box.node),
        ]
    )
    return app
