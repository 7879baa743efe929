"""One ingest shard, a process of its own: hellos, frames, what goes down, for its share of the
fleet. What records mean is the hub's own work; it is told when there is more in the log.
"""

import asyncio
import contextlib
from typing import Final

import msgspec
from sqlalchemy.exc import OperationalError

from lianzhen_hub.broker.mosquitto import own_address
from lianzhen_hub.fleet.authority import Authority
from lianzhen_hub.fleet.fleet import Fleet
from lianzhen_hub.settings import Settings
from lianzhen_hub.store.database import Database
from lianzhen_protocol.identity import HUB_NAME, NodeId
from lianzhen_runtime import log, tls
from lianzhen_runtime.errors import Unavailable
from lianzhen_runtime.keys import FileKeys
from lianzhen_runtime.supervise import supervised

from .downlink import Outbox
from .service import Ingest
from .shards import SOCKET, Down, Up
from .share import Share
from .vault import Vault

_STATUS_SECONDS: Final = 0.5
_FLEET_SECONDS: Final = 5.0
_RETRY_SECONDS: Final = 1.0
_FAULTS = (OSError, TimeoutError, OperationalError)
_log = log.Log("lianzhen.shard")


async def run(settings: Settings, shard: int) -> None:
    """Run until cancelled, or until the hub has gone: Unavailable."""
    log.configure(settings.log_level)
    async with Database(settings.database_url) as database:
        made = Shard(settings, Share(shard, settings.shards), database)
        await made.run()


class Shard:
    """The parts of a hub that an ingest needs, and the connection to the hub."""

    def __init__(self, settings: Settings, share: Share, database: Database) -> None:
        folder = settings.folder
        self._settings = settings
        self._share = share
        self._authority = Authority(folder / "ca")
        keys = FileKeys(folder / "keys")
        vault = Vault(keys, database)
        port = settings.mqtt_port
        self._fleet = Fleet(database, self._authority, keys, mqtt_port=port)
        self._more = asyncio.Event()
        self._ingest = Ingest(
            database,
            vault,
            Outbox(vault),
            self._fleet,
            self._authority.signer(),
            settings.clock,
            self._more.set,
            share=share,
            safe_on_commit=settings.safe == "commit",
        )

    async def run(self) -> None:
        """Hold the connection to the hub, and the ingest beside it."""
        path = self._settings.folder / SOCKET
        try:
            reader, writer = await asyncio.open_unix_connection(path)
        except OSError as error:
            raise Unavailable(f"the hub does not answer at {path}") from error
        await self._fleet.sync()
        async with asyncio.TaskGroup() as services:
            self._say(writer, Up(shard=self._share.shard))
            services.create_task(self._listen(reader, writer))
            services.create_task(self._tell(writer))
            services.create_task(self._report(writer))
            services.create_task(supervised("fleet", self._look, faults=_FAULTS, cap=5.0))
            services.create_task(supervised("ingest", self._take_in, faults=_FAULTS, cap=5.0))

    async def _take_in(self) -> None:
        identity = self._authority.hub_client().path
        context = tls.client_context(
            self._authority.ca_pem, self._settings.clock, HUB_NAME, (identity, identity)
        )
        address = own_address(self._settings.listen, self._settings.mqtt_port)
        await self._ingest.run(address, context)

    async def _listen(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            said = msgspec.json.decode(line, type=Down)
            while not await self._done(said):
                pass
            if said.turn:
                self._say(writer, Up(done=said.turn))
        raise Unavailable("the hub has gone")

    async def _done(self, said: Down) -> bool:
        """What the hub asks; False if the database is away just now."""
        try:
            if said.fleet or said.revoked:
                await self._fleet.sync()
            if said.revoked:
                await self._ingest.revoked(NodeId(said.revoked))
            if said.safe:
                self._ingest.made_safe()
            await self._ingest.told([NodeId(node) for node in said.told])
        except OperationalError as error:
            cause = type(error.orig).__name__
            _log.transition("database", "refuses", bad=True, error=cause)
            await asyncio.sleep(_RETRY_SECONDS)
            return False
        _log.transition("database", "works")
        return True

    async def _tell(self, writer: asyncio.StreamWriter) -> None:
        while True:
            await self._more.wait()
            self._more.clear()
            self._say(writer, Up(logged=True))
            await writer.drain()

    async def _report(self, writer: asyncio.StreamWriter) -> None:
        ingest = self._ingest
        while True:
            flows, rates = ingest.traffic.lanes, ingest.traffic.rates()
            said = Up(
                status=ingest.status,
                sessions=ingest.sessions,
                listening=ingest.listening,
                lanes={lane.word: (flow.items, flow.size) for lane, flow in flows.items()},
                rates=[(node, lane, rate) for (node, lane), rate in rates.items()],
            )
            self._say(writer, said)
            await asyncio.sleep(_STATUS_SECONDS)

    async def _look(self) -> None:
        """What the hub or its command line did to the fleet, whoever forgot to say so."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_FLEET_SECONDS):
                    await self._fleet.changed.wait()
            self._fleet.changed.clear()
            await self._fleet.sync()

    @staticmethod
    def _say(writer: asyncio.StreamWriter, line: Up) -> None:
        writer.write(msgspec.json.encode(line) + b"\n")
