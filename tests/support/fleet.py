"""A hub's fleet parts on real sockets: database, authority, HTTPS, broker; and boxes to meet it."""

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import select

from lianzhen_edge.appliance.clock import TrustedClock
from lianzhen_hub.broker.configuration import BrokerSettings
from lianzhen_hub.broker.gate import Gate
from lianzhen_hub.broker.mosquitto import Broker
from lianzhen_hub.fleet.authority import NODE_LIFE, Authority, spki_der
from lianzhen_hub.fleet.fleet import Fleet
from lianzhen_hub.fleet.limits import RateLimit
from lianzhen_hub.fleet.routes import PREFIX, Enrolment
from lianzhen_hub.store.database import Database, sqlite_url
from lianzhen_hub.store.tables import notice
from lianzhen_protocol.claims import Claim, EnrolRequest, claim_key, proof
from lianzhen_protocol.identity import HUB_NAME
from lianzhen_runtime import mqtt, tls
from lianzhen_runtime.files import private_folder
from lianzhen_runtime.keys import FileKeys
from lianzhen_runtime.problems import problems

DAY = 24 * 3600.0
DEADLINE_S = 60.0


class MovedClock:
    """The real time, moved by ``by`` seconds."""

    def __init__(self, by: float = 0.0) -> None:
        self.by = by

    def __call__(self) -> float:
        return time.time() + self.by


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def until(condition: Callable[[], Any], what: str = "") -> None:
    """Return when ``condition`` holds; fail if it does not within the deadline."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"never came true: {what or condition}"
        await asyncio.sleep(0.01)


def new_key() -> ec.EllipticCurvePrivateKey:
    """A box's key."""
    return ec.generate_private_key(ec.SECP256R1())


def csr(key: Any, name: str = "whatever") -> str:
    """A request over ``key``, with a subject that means nothing."""
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    algorithm = None if isinstance(key, Ed25519PrivateKey) else hashes.SHA256()
    made = x509.CertificateSigningRequestBuilder(subject).sign(key, algorithm)
    return made.public_bytes(serialization.Encoding.PEM).decode()


def request_for(claim: Claim, nonce: str, key: ec.EllipticCurvePrivateKey) -> EnrolRequest:
    """What an honest box sends."""
    proved = proof(claim_key(claim.code), nonce, claim.box, spki_der(key.public_key()))
    return EnrolRequest(box=claim.box, nonce=nonce, csr=csr(key), proof=proved)


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A key as TLS loads it."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


@dataclass
class Parts:
    """A hub's fleet, not yet on any socket."""

    folder: Path
    database: Database
    authority: Authority
    fleet: Fleet
    clock: MovedClock
    mqtt_port: int

    async def notices(self) -> list[str]:
        """Codes of what an admin was told, oldest first."""
        query = select(notice.c.code).order_by(notice.c.id)
        codes = await self.database.read(lambda link: link.execute(query).scalars().all())
        return list(codes)

    async def enrolled(self, box: str = "BOX-1") -> tuple[str, ec.EllipticCurvePrivateKey, Path]:
        """A node made through the front door; its key, and a file of key and certificate."""
        claim = await self.fleet.new_claim(box, "clinic", "https://127.0.0.1:1")
        key = new_key()
        issued = await self.fleet.enrol(request_for(claim, self.fleet.nonce().nonce, key))
        path = self.folder / f"{issued.node}.pem"
        path.write_bytes(key_pem(key) + issued.certificate.encode())
        return issued.node, key, path

    def context(self, identity: Path | None) -> ssl.SSLContext:
        """TLS to this hub, with or without a certificate."""
        pair = None if identity is None else (identity, identity)
        return tls.client_context(self.authority.ca_pem, time.time, HUB_NAME, pair)


@contextlib.asynccontextmanager
async def parts(
    folder: Path, *, lifetime: timedelta = NODE_LIFE, began: float = 0.0
) -> AsyncIterator[Parts]:
    """A fleet with its database. ``began``: seconds by which the hub's clock is moved."""
    clock = MovedClock(began)
    authority = Authority(private_folder(folder) / "ca", clock)
    keys, port = FileKeys(folder / "keys"), free_port()
    async with Database(sqlite_url(folder / "hub.db")) as database:
        fleet = Fleet(database, authority, keys, mqtt_port=port, lifetime=lifetime, clock=clock)
        yield Parts(folder, database, authority, fleet, clock, port)


@dataclass
class Web:
    """A hub's HTTPS. ``lose`` drops the next reply to a path, its work done."""

    parts: Parts
    port: int = field(default_factory=free_port)
    asked: list[str] = field(default_factory=list)
    lose: set[str] = field(default_factory=set)
    answer_busy: int = 0

    @property
    def url(self) -> str:
        """Where a claim says it is."""
        return f"https://127.0.0.1:{self.port}"

    @web.middleware
    async def on_the_way(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """The line between box and hub: what was asked, and what gets lost."""
        verb = request.path.rsplit("/", 1)[-1]
        self.asked.append(verb)
        if self.answer_busy:
            self.answer_busy -= 1
            return web.Response(status=503, headers={"Retry-After": "1"})
        answer = await handler(request)
        if verb in self.lose and request.transport is not None:
            self.lose.discard(verb)
            request.transport.abort()
        return answer

    async def claim(self, box: str = "BOX-1", valid_days: int = 14) -> Claim:
        """A claim that leads here."""
        return await self.parts.fleet.new_claim(box, "clinic", self.url, valid_days)


@contextlib.asynccontextmanager
async def serving(
    hub: Parts, limit: RateLimit | None = None, port: int | None = None, poll_s: int = 1
) -> AsyncIterator[Web]:
    """Enrolment over HTTPS on loopback."""
    line = Web(hub) if port is None else Web(hub, port)
    enrolment = Enrolment(
        hub.fleet,
        hub.authority,
        hub.authority.signer(),
        limit=limit or RateLimit(time.monotonic, burst=1000),
        clock=hub.clock,
        poll_s=poll_s,
    )
    app = web.Application(middlewares=[line.on_the_way, problems])
    app.add_subapp(PREFIX, enrolment.application())
    pair = hub.authority.issue_hub(["127.0.0.1"]).path
    runner = web.AppRunner(app, access_log=None, handle_signals=False)
    await runner.setup()
    try:
        context = tls.server_context(pair, pair, hub.authority.ca_pem)
        await web.TCPSite(runner, "127.0.0.1", line.port, ssl_context=context).start()
        yield line
    finally:
        await runner.cleanup()


@dataclass
class Live:
    """A running broker and its gate."""

    parts: Parts
    broker: Broker
    gate: Gate

    @contextlib.asynccontextmanager
    async def session(
        self, identity: Path, client_id: str, inbox: list[tuple[str, bytes]] | None = None
    ) -> AsyncIterator[mqtt.Session]:
        """An MQTT session under a certificate; what it receives goes to ``inbox``."""
        got: list[tuple[str, bytes]] = [] if inbox is None else inbox
        context = self.parts.context(identity)

        def take(topic: str, payload: bytes) -> None:
            got.append((topic, payload))

        async with mqtt.session(self.broker.address, client_id, context, take) as opened:
            yield opened

    @contextlib.asynccontextmanager
    async def session_without(self) -> AsyncIterator[mqtt.Session]:
        """A session that shows no certificate."""
        context = self.parts.context(None)
        async with mqtt.session(self.broker.address, "bare", context, lambda *_: None) as opened:
            yield opened

    @property
    def hub_identity(self) -> Path:
        """The hub's own certificate and key."""
        return self.parts.authority.hub_client().path


@contextlib.asynccontextmanager
async def brokered(hub: Parts, **settings: Any) -> AsyncIterator[Live]:
    """The broker as the hub runs it; the gate is stepped by the test."""
    chosen = BrokerSettings(address="127.0.0.1", port=hub.mqtt_port, **settings)
    broker = Broker(hub.folder / "broker", chosen, hub.authority, clock=time.time)
    gate = Gate(hub.fleet, hub.authority, broker)
    await gate.step()
    async with asyncio.TaskGroup() as services:
        running = services.create_task(broker.run())
        try:
            async with asyncio.timeout(DEADLINE_S):
                await broker.started()
            yield Live(hub, broker, gate)
        finally:
            running.cancel()


def box_clock(folder: Path, at: Callable[[], float] = time.time, build_ms: int = 0) -> TrustedClock:
    """A box's clock whose system clock says ``at``."""
    folder.mkdir(parents=True, exist_ok=True)
    return TrustedClock(folder, build_ms, system=at)
