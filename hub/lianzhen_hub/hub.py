"""The hub's parts, put together once. ``app`` runs them, ``admin`` asks them."""

import asyncio
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Self, TypeVar

from prometheus_client.core import Metric
from sqlalchemy import Connection

from lianzhen_protocol.identity import NodeId
from lianzhen_runtime.keys import FileKeys
from lianzhen_runtime.web.live import Live

from . import __version__
from .admin import boxes
from .admin.boxes import NodeView
from .backup.keeping import Backups
from .broker.configuration import BrokerSettings
from .broker.external import ExternalBroker
from .broker.gate import Gate
from .broker.mosquitto import Broker
from .consultations.presence import Presence
from .fleet.authority import Authority
from .fleet.fleet import Fleet
from .imaging.store import FOLDER, ObjectStore, image_store
from .ingest.downlink import Outbox
from .ingest.projection import Projection
from .ingest.projector import Projector
from .ingest.quarantine import HeldRecord, Place, Quarantine, Verdict
from .ingest.service import Ingest
from .ingest.shards import Shards
from .ingest.status import total
from .ingest.vault import Vault
from .meanings import MEANINGS
from .metrics import metrics
from .page import HubPage
from .settings import OWN_BROKER, Settings
from .settlement.desk import keep_rules
from .status import Health, HubStatus
from .store.database import Database
from .store.sheets import HubSheets
from .upkeep import Upkeep

Result = TypeVar("Result")

WATCH_SECONDS = 15.0
"""How old what metrics say of single boxes may be."""


class Hub:
    """All parts of a hub. ``open`` the database before anything is asked of it."""

    def __init__(self, settings: Settings, command: Sequence[str] = ()) -> None:
        folder = settings.folder
        self.settings = settings
        self.public_url = settings.public_url
        self.database = Database(settings.database_url)
        self.authority = Authority(folder / "ca")
        keys = FileKeys(folder / "keys")
        self.vault = Vault(keys, self.database)
        self.outbox = Outbox(self.vault)
        self.objects = ObjectStore(folder / FOLDER, keys, image_store(settings))
        self.images_folder = folder / FOLDER if settings.images is None else None
        """Where whole images lie; None where a store of its own has them."""
        self.backups = Backups(self)
        self.upkeep = Upkeep(self)
        self.fleet = Fleet(self.database, self.authority, keys, mqtt_port=settings.mqtt_port)
        self.signer = self.authority.signer()
        self.broker: Broker | ExternalBroker = self._new_broker(settings)
        self.presence = Presence(self.now_ms)
        self.gate = Gate(self.fleet, self.authority, self.broker)
        self.live = Live()
        """What the console's pages are told as it happens."""
        projector = Projector(self.vault, self.outbox, self._page, MEANINGS)
        self._boxes: list[NodeView] = []
        self._watchers: list[Callable[[Collection[tuple[str, str]]], None]] = []
        self.projection = Projection(
            self.database,
            projector,
            Quarantine(projector, self.vault, self.outbox, self._page),
            self.clock,
            self._announce,
            self._tell,
        )
        self.ingest: Ingest | Shards = (
            self._sharded(command) if settings.shards > 1 else self._whole()
        )

    def _whole(self) -> Ingest:
        return Ingest(
            self.database,
            self.vault,
            self.outbox,
            self.fleet,
            self.signer,
            self.clock,
            self.projection.logged,
            safe_on_commit=self.settings.safe == "commit",
        )

    def _sharded(self, command: Sequence[str]) -> Shards:
        folder, count = self.settings.folder, self.settings.shards
        return Shards(folder, count, command, self.fleet.active, self.projection.logged)

    async def _tell(self, nodes: Collection[NodeId]) -> None:
        await self.ingest.told(nodes)

    def _new_broker(self, settings: Settings) -> Broker | ExternalBroker:
        if settings.broker != OWN_BROKER:
            return ExternalBroker(settings.broker)
        own = BrokerSettings(address=settings.listen, port=settings.mqtt_port)
        return Broker(settings.folder / "broker", own, self.authority, names=settings.names)

    async def __aenter__(self) -> Self:
        await self.database.__aenter__()
        await self.database.patiently(self._prepare)
        return self

    async def _prepare(self) -> None:
        # In a commit of their own: a piece of work that fails must not take the keys with it.
        await self.database.write(lambda db: self._page(db, self.now_ms()).keep_pseudonym_key())
        await self.database.write(
            lambda db: keep_rules(self._page(db, self.now_ms()), self.settings)
        )
        await self.fleet.sync()
        await self.backups.begin()

    async def __aexit__(self, *exception: object) -> None:
        self.objects.close()
        await self.objects.unpacker.close()
        await self.database.__aexit__(*exception)

    # -- sheets

    async def transact(self, work: Callable[[HubPage], Result]) -> Result:
        """Run ``work`` in one transaction on the writer's thread; durable when this returns.

        Boxes that it wrote to are told, and whoever watches learns what changed.
        """

        def working(db: Connection) -> tuple[Result, HubPage]:
            page = self._page(db, self.now_ms())
            return work(page), page

        result, page = await self.database.write(working)
        self._announce(page.changed)
        await self.ingest.told(page.told)
        return result

    async def consult(self, work: Callable[[HubSheets], Result]) -> Result:
        """Run ``work`` on a snapshot; it writes nothing."""
        return await self.database.read(lambda db: work(HubSheets(db, self.vault)))

    async def held(self, place: Place, actor: str) -> HeldRecord:
        """A record in quarantine with all that it says; the look is noted."""
        return await self.transact(lambda page: self.projection.quarantine.show(page, place, actor))

    async def release(self, place: Place, verdict: Verdict) -> None:
        """Apply a record of the quarantine after all."""
        quarantine, now_ms = self.projection.quarantine, self.now_ms()
        await self.projection.carry_out(lambda db: quarantine.release(db, place, verdict, now_ms))

    async def dismiss(self, place: Place, verdict: Verdict) -> None:
        """Say that a record of the quarantine is not to be applied."""
        quarantine, now_ms = self.projection.quarantine, self.now_ms()
        await self.projection.carry_out(lambda db: quarantine.dismiss(db, place, verdict, now_ms))

    def on_change(self, watcher: Callable[[Collection[tuple[str, str]]], None]) -> None:
        """Call ``watcher`` on the loop with the (kind, key) of sheets that a commit changed."""
        self._watchers.append(watcher)

    def _page(self, db: Connection, now_ms: int, node: str = "") -> HubPage:
        return HubPage(db, self.vault, self.outbox, now_ms, node)

    def _announce(self, changed: Collection[tuple[str, str]]) -> None:
        if changed:
            for watcher in self._watchers:
                watcher(changed)

    async def boxes(self) -> list[NodeView]:
        """Every box with its lanes."""
        rates, now_ms = self.ingest.traffic.rates(), self.now_ms()
        return await self.database.read(lambda db: boxes.nodes(db, rates, now_ms))

    async def watch(self) -> None:
        """Keep what metrics say of single boxes: no scrape waits for the database."""
        while True:
            self._boxes = await self.boxes()
            await asyncio.sleep(WATCH_SECONDS)

    # -- life

    async def revoke(self, node: str, reason: str) -> None:
        """Take a box out of service: when this returns it is neither connected nor heard."""
        await self.fleet.revoke(node, reason)
        await self.ingest.revoked(NodeId(node))
        await self.gate.step()

    def clock(self) -> float:
        """Seconds since 1970, UTC."""
        return self.settings.clock()

    def now_ms(self) -> int:
        """The same in milliseconds."""
        return int(self.clock() * 1000)

    def health(self) -> Health:
        """Healthy: the database is there, the broker runs and the ingest listens."""
        listening = self.ingest.listening
        broker = listening if self.broker.durable else self.broker.pid is not None
        return Health(
            ok=broker and listening,
            database=not self.database.away,
            program="lianzhen-hub",
            version=__version__,
            pin=self.authority.spki_pin.hex(),
            broker=broker,
            listening=listening,
        )

    def status(self) -> HubStatus:
        """The state of every part."""
        return HubStatus(
            health=self.health(),
            backend=self.database.backend,
            url=self.public_url,
            sessions=self.ingest.sessions,
            ingest=total((self.ingest.status, self.projection.status)),
            crl_age_s=min(self.broker.crl_age_s, 1e9),
            broker_pid=self.broker.pid,
            image_store=self.objects.store_is_up,
            safe=self.settings.safe,
            backup_ms=self.backups.last_ms,
            strays=self.upkeep.strays,
        )

    def metrics(self) -> Iterable[Metric]:
        """For Prometheus."""
        most = self.settings.metrics_boxes
        return metrics(self.status(), self._boxes, self.ingest.traffic.lanes, most)
