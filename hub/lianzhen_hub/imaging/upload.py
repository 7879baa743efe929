"""Where boxes bring their images: HEAD and PATCH as in tus, over mTLS (docs/imaging.md).

::

    HEAD  /images/v1/<key>/<part>    Upload-Length, Upload-Digest -> Upload-Offset
    PATCH /images/v1/<key>/<part>    the same, Upload-Offset, Upload-Reached, a chunk
                                     -> Upload-Offset

A box sees and writes under its own certificate's name only, and only what its manifest announced.
An image is committed when all of it is durable and its hash is right; the receipt is a record.
"""

import asyncio
import re
from typing import Final, NamedTuple, cast

import msgspec
from aiohttp import ClientPayloadError, web

from lianzhen_hub.fleet.errors import RequestTooLarge
from lianzhen_hub.fleet.fleet import Fleet
from lianzhen_hub.fleet.routes import peer_certificate
from lianzhen_hub.hub import Hub
from lianzhen_hub.page import HubPage
from lianzhen_protocol import imaging
from lianzhen_protocol.imaging import SAFE, ImageReceived, Instance
from lianzhen_runtime.packing import MAX_BYTES as MAX_PACKED_BYTES
from lianzhen_runtime.preview import MAX_PREVIEW_BYTES
from lianzhen_runtime.problems import problems

from .errors import ChunkCut, ImageUnannounced, UploadDiffers
from .meanings import receipt
from .store import Chunk, ObjectStore, Whole
from .stores import Name, Part
from .unsafe import ImageUnsafe

MAX_CHUNK_BYTES: Final = 1 << 20
SILENCE_SECONDS: Final = 60.0
"""After that long without a byte a line is taken for dead."""
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_JPEG: Final = b"\xff\xd8\xff"


class _Wanted(NamedTuple):
    name: Name
    digest: str
    length: int
    whole: Whole | None


class Uploads:
    """The handlers."""

    def __init__(self, hub: Hub, fleet: Fleet, store: ObjectStore) -> None:
        self._hub = hub
        self._fleet = fleet
        self._store = store

    def application(self) -> web.Application:
        """The routes without their prefix, for ``app.add_subapp(imaging.UPLOAD_PATH, ...)``."""
        app = web.Application(middlewares=[problems], client_max_size=MAX_CHUNK_BYTES)
        path = "/{key:[0-9a-f]{32}}/{part:original|packed|preview}"
        app.add_routes([web.head(path, self._offset), web.patch(path, self._append)])
        return app

    async def _offset(self, request: web.Request) -> web.Response:
        wanted = await self._wanted(request, peer_certificate(request))
        return _at(await self._store.offset(wanted.name, wanted.digest, wanted.length))

    async def _append(self, request: web.Request) -> web.Response:
        certificate = peer_certificate(request)  # a line that is cut has none any more
        offset, proof = _number(request, "Upload-Offset"), _digest(request, "Upload-Reached")
        content = bytearray()
        # Before anything else: what waits unread is lost when the line is cut.
        whole = certificate is not None and await _body(request, content)
        wanted = await self._wanted(request, certificate)
        if wanted.name.part == "preview" and offset == 0 and not content.startswith(_JPEG):
            raise UploadDiffers("a preview is a JPEG")
        chunk = Chunk(offset, bytes(content), proof if whole else None)
        reached = await self._store.append(
            wanted.name, wanted.digest, chunk, wanted.length, wanted.whole
        )
        if not whole:
            raise ChunkCut(f"the line ended within this chunk; go on at byte {reached}")
        if reached == wanted.length:
            at_once = self._hub.settings.safe == "commit"
            await self._hub.transact(
                lambda page: commit(page, wanted.name.kept_as(), wanted.length, at_once=at_once)
            )
        return _at(reached)

    async def _wanted(self, request: web.Request, certificate: bytes | None) -> _Wanted:
        """Who asks, for what; every way of not being allowed to raises."""
        node = await self._fleet.holder(certificate)
        key, part = request.match_info["key"], cast(Part, request.match_info["part"])
        length, digest = _number(request, "Upload-Length"), _digest(request, "Upload-Digest")
        instance = await self._hub.consult(lambda sheets: sheets.get(Instance, key))
        if instance is None or instance.node != node:
            raise ImageUnannounced("no manifest of this image has come from this box")
        if part == "original" and (length, digest) != (instance.size, instance.sha256):
            raise UploadDiffers("length or digest are not those of the manifest")
        if part == "preview" and not 0 < length <= MAX_PREVIEW_BYTES:
            raise UploadDiffers(f"a preview has at most {MAX_PREVIEW_BYTES} bytes")
        if part == "packed" and not 0 < length < instance.size <= MAX_PACKED_BYTES:
            raise UploadDiffers(
                "a packed image is smaller than its original, which is no large one"
            )
        whole = Whole(instance.size, instance.sha256) if part == "packed" else None
        return _Wanted(Name(node, key, part), digest, length, whole)


def commit(page: HubPage, name: Name, length: int, *, at_once: bool = True) -> None:
    """What is durable in the store takes effect, once; a receipt that got lost is given again.

    Not ``at_once``: the receipt waits for a backup that holds the image.
    """
    instance = page.get(Instance, name.key)
    if instance is None:
        raise ImageUnannounced("no manifest of this image has come from this box")
    if name.part == "preview":
        if instance.preview != length:
            page.put(msgspec.structs.replace(instance, preview=length))
        return
    body = ImageReceived(instance=name.key, sha256=instance.sha256, received_ms=page.now_ms)
    if imaging.received(page, body) and not at_once:
        page.put(ImageUnsafe(id=name.key, node=name.node, at_ms=page.now_ms))
    known = page.get(Instance, name.key)
    if known is not None and known.state == SAFE:
        receipt(page, known)


def _at(offset: int) -> web.Response:
    headers = {"Upload-Offset": str(offset), "Cache-Control": "no-store"}
    return web.Response(status=204, headers=headers)


def _number(request: web.Request, header: str) -> int:
    text = request.headers.get(header, "")
    if not (text.isascii() and text.isdigit() and len(text) <= 15):
        raise UploadDiffers(f"{header} is a number of bytes")
    return int(text)


def _digest(request: web.Request, header: str) -> str:
    text = request.headers.get(header, "")
    if not _DIGEST.fullmatch(text):
        raise UploadDiffers(f"{header} is a SHA-256, in hexadecimal")
    return text


async def _body(request: web.Request, content: bytearray) -> bool:
    """Put what comes into ``content``; False if the line was cut before all of it came."""
    parts = request.content.iter_any()
    try:
        while True:
            async with asyncio.timeout(SILENCE_SECONDS):
                content += await anext(parts)
            if len(content) > MAX_CHUNK_BYTES:
                raise RequestTooLarge(MAX_CHUNK_BYTES)
    except StopAsyncIteration:
        return True
    except (OSError, TimeoutError, ClientPayloadError):
        return False
