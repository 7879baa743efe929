"""What the services of the DICOM port ask the core, over the control socket."""

from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

from lianzhen_runtime.problems import json_answer

from . import commitments, orders, retrieval, steps
from .services.said import Begin, Change, Commit, Listed, Sought, Taken

if TYPE_CHECKING:
    from lianzhen_edge.box import Box

_begin = msgspec.json.Decoder(Begin)
_change = msgspec.json.Decoder(Change)
_commit = msgspec.json.Decoder(Commit)
_sought = msgspec.json.Decoder(Sought)
_taken = msgspec.json.Decoder(Taken)


def routes(box: "Box") -> list[web.RouteDef]:
    """NotEnrolled or NotReady while there is no journal, which a service takes for 'later'."""

    async def worklist(_request: web.Request) -> web.Response:
        due = orders.due(box.journal.sheets, box.clinic)
        return json_answer(Listed(now_ms=box.clock.now_ms, due=due))

    async def commit(request: web.Request) -> web.Response:
        said = _commit.decode(await request.read())
        key = await box.journal.transact(lambda book: commitments.take(book, said))
        return json_answer(Taken(id=key))

    async def decided(_request: web.Request) -> web.Response:
        return json_answer(box.imaging.commitments.decided())

    async def decided_one(request: web.Request) -> web.Response:
        found = box.imaging.commitments.one(request.match_info["id"])
        return json_answer([found] if found else [])

    async def told(request: web.Request) -> web.Response:
        key = _taken.decode(await request.read()).id
        await box.journal.transact(lambda book: commitments.told(book, key))
        box.imaging.commitments.forget(key)
        return json_answer(Taken(id=key))

    async def find(request: web.Request) -> web.Response:
        said = _sought.decode(await request.read())
        return json_answer(await box.journal.transact(lambda book: retrieval.find(book, said)))

    async def fetch(request: web.Request) -> web.Response:
        said = _sought.decode(await request.read())
        return json_answer(await box.journal.transact(lambda book: retrieval.fetch(book, said)))

    async def begin(request: web.Request) -> web.Response:
        said = _begin.decode(await request.read())
        key = await box.journal.transact(lambda book: steps.begin(book, said))
        return json_answer(Taken(id=key))

    async def change(request: web.Request) -> web.Response:
        said = _change.decode(await request.read())
        key = await box.journal.transact(lambda book: steps.change(book, said))
        return json_answer(Taken(id=key))

    return [
        web.get("/dicom/worklist", worklist),
        web.post("/dicom/steps", begin),
        web.post("/dicom/steps/changed", change),
        web.post("/dicom/find", find),
        web.post("/dicom/fetch", fetch),
        web.post("/dicom/commitments", commit),
        web.get("/dicom/commitments", decided),
        web.post("/dicom/commitments/told", told),
        web.get("/dicom/commitments/{id}", decided_one),
    ]
