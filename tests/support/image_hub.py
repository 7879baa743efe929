"""A hub's HTTPS in this process, and boxes that know it."""

import hashlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import msgspec
from sqlalchemy import func, select

from lianzhen_hub.app import public
from lianzhen_hub.hub import Hub
from lianzhen_hub.settings import Settings
from lianzhen_hub.store.tables import down
from lianzhen_protocol import imaging
from lianzhen_protocol.identity import HUB_NAME
from lianzhen_protocol.imaging import ImageStored, Instance
from lianzhen_runtime import tls
from lianzhen_runtime.http import serving

from .fleet import key_pem, new_key, request_for


@dataclass
class ImageHub:
    """A hub's HTTPS, and boxes that know it."""

    hub: Hub
    port: int
    folder: Path

    async def box(self, name: str) -> tuple[str, ssl.SSLContext]:
        claim = await self.hub.fleet.new_claim(name, "clinic", "https://127.0.0.1:1")
        key = new_key()
        issued = await self.hub.fleet.enrol(request_for(claim, self.hub.fleet.nonce().nonce, key))
        path = self.folder / f"{issued.node}.pem"
        path.write_bytes(key_pem(key) + issued.certificate.encode())
        return issued.node, self.context(path)

    def context(self, identity: Path | None = None) -> ssl.SSLContext:
        pair = None if identity is None else (identity, identity)
        return tls.client_context(self.hub.authority.ca_pem, self.hub.clock, HUB_NAME, pair)

    async def announce(self, node: str, content: bytes) -> str:
        sha256 = hashlib.sha256(content).hexdigest()
        body = ImageStored(
            instance=imaging.instance_key(node, sha256),
            study=imaging.study_key(node, "1.2.3"),
            sha256=sha256,
            size=len(content),
            sop_class="1.2.840.10008.5.1.4.1.1.2",
            sop_uid=f"1.2.3.{int(sha256[:8], 16)}",
            study_uid="1.2.3",
            series_uid="1.2.3.1",
            transfer_syntax="1.2.840.10008.1.2.1",
            received_ms=1,
        )
        await self.hub.transact(lambda page: imaging.stored(page, node, body))
        return body.instance

    async def state(self, key: str) -> Instance:
        found = await self.hub.consult(lambda sheets: sheets.get(Instance, key))
        assert found is not None
        return found

    async def receipts(self, node: str) -> int:
        mine = (down.c.node == node) & (down.c.stream == imaging.STREAM)
        query = select(func.count()).where(mine)
        return await self.hub.database.read(lambda link: int(link.execute(query).scalar_one()))

    def session(self, context: ssl.SSLContext, port: int | None = None) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(ssl=context, force_close=port is not None)
        return aiohttp.ClientSession(f"https://127.0.0.1:{port or self.port}", connector=connector)


@asynccontextmanager
async def image_hub(folder: Path, **settings: str) -> AsyncIterator[ImageHub]:
    """One that listens."""
    found = {"state": str(folder), "names": ("127.0.0.1",)} | settings
    async with Hub(msgspec.convert(found, Settings)) as hub:
        pair = hub.authority.issue_hub(["127.0.0.1"]).path
        context = tls.server_context(pair, pair, hub.authority.ca_pem)
        async with serving(public(hub), tls=context) as port:
            yield ImageHub(hub, port, folder)
