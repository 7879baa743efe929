"""What is said of images over the control socket: the scp's notices, and the owner's commands."""

from collections.abc import Callable

import msgspec
from aiohttp import web

from lianzhen_runtime.problems import json_answer

from .arrival import Called, Kept
from .imaging import Imaging


class Admit(msgspec.Struct, frozen=True, kw_only=True):
    """Let this modality in, or shut it out, in somebody's name."""

    title: str
    address: str
    by: str
    remove: bool = False


_kept = msgspec.json.Decoder(list[Kept])
_called = msgspec.json.Decoder(Called)
_admit = msgspec.json.Decoder(Admit)


def routes(imaging: Callable[[], Imaging]) -> list[web.RouteDef]:
    """``imaging`` raises while there is none, which the scp takes for 'later'."""

    async def kept(request: web.Request) -> web.Response:
        for notice in _kept.decode(await request.read()):
            imaging().kept(notice)
        return web.Response(status=204)

    async def called(request: web.Request) -> web.Response:
        await imaging().called(_called.decode(await request.read()))
        return web.Response(status=204)

    async def modalities(_request: web.Request) -> web.Response:
        return json_answer(imaging().scanners())

    async def admit(request: web.Request) -> web.Response:
        wanted = _admit.decode(await request.read())
        change = imaging().remove_by_hand if wanted.remove else imaging().admit_by_hand
        return json_answer(await change(wanted.title, wanted.address, "", wanted.by))

    return [
        web.post("/dicom/kept", kept),
        web.post("/dicom/called", called),
        web.get("/dicom/modalities", modalities),
        web.post("/dicom/modalities", admit),
    ]
