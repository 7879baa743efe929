"""Runs a hub: broker, gate, ingest, projection, HTTPS for boxes, a socket for admins, probes."""

import asyncio
import contextlib
import ssl
from collections.abc import Sequence

from aiohttp import web
from sqlalchemy.exc import OperationalError

from lianzhen_protocol.identity import HUB_NAME
from lianzhen_protocol.imaging import UPLOAD_PATH
from lianzhen_runtime import log, tls
from lianzhen_runtime.files import private_folder, sole_user
from lianzhen_runtime.http import health_page, probes, serving
from lianzhen_runtime.problems import problems
from lianzhen_runtime.supervise import supervised

from . import __version__
from .admin import routes as admin
from .audit import notary
from .audit.notary import Notary
from .broker import asking
from .consoles.app import HubConsole
from .consultations.service import Assignments
from .fleet.routes import PREFIX, Enrolment
from .hub import Hub
from .imaging.upload import Uploads
from .ingest.shards import Shards
from .settings import Settings
from .signing.keeper import ListKeeper

_CERTIFICATE_SECONDS = 3600.0
_FAULTS = (OSError, TimeoutError, OperationalError)
_log = log.Log("lianzhen.hub")


async def run(settings: Settings, command: Sequence[str]) -> None:
    """Run until cancelled. Unavailable, in one sentence, for what keeps it from starting."""
    log.configure(settings.log_level)
    # Open to be passed through: the broker runs as a user of its own, in a folder below.
    with sole_user(private_folder(settings.folder, 0o711)):
        hub = Hub(settings, command)
        page = probes(hub.health, hub.metrics)  # also while the database is waited for
        async with serving(page, port=settings.status_port), hub:
            await _serve(hub, settings)


async def _serve(hub: Hub, settings: Settings) -> None:
    pair = hub.authority.issue_hub(settings.names).path
    server = tls.server_context(pair, pair, hub.authority.ca_pem)
    console = HubConsole(hub)
    assignments = Assignments(hub, settings.accept_seconds)
    async with (
        serving(public(hub), host=settings.listen, port=settings.https_port, tls=server),
        console.serving(),
        serving(admin.application(hub, console.registry), path=settings.folder / "admin.sock"),
        _asked(hub),
        asyncio.TaskGroup() as services,
    ):
        for name, service in (
            ("broker", hub.broker.run),
            ("gate", hub.gate.run),
            ("ingest", lambda: _ingest(hub)),
            ("projection", hub.projection.run),
            ("fleet watch", hub.watch),
            ("upkeep", hub.upkeep.run),
            ("audit", Notary(hub, settings.folder / notary.FILE).run),
            ("assignment", assignments.run),
            ("experts", ListKeeper(hub).run),
            ("certificate", lambda: _keep_certificate(hub, settings, server)),
        ):
            services.create_task(supervised(name, service, faults=_FAULTS, cap=5.0), name=name)
        _log.info("hub runs", version=__version__, backend=hub.database.backend)


def _asked(hub: Hub) -> contextlib.AbstractAsyncContextManager[object]:
    """Where a broker of many nodes asks who may do what; our own has a list."""
    if not hub.broker.durable:
        return contextlib.nullcontext()
    return serving(asking.application(hub.fleet.is_active), port=hub.settings.broker_auth_port)


async def _keep_certificate(hub: Hub, settings: Settings, server: ssl.SSLContext) -> None:
    """New connections get the new certificate; the broker gets it from the gate."""
    while True:
        pair = hub.authority.issue_hub(settings.names).path
        server.load_cert_chain(pair)
        await asyncio.sleep(_CERTIFICATE_SECONDS)


async def _ingest(hub: Hub) -> None:
    await hub.broker.started()
    if isinstance(hub.ingest, Shards):
        await hub.ingest.run()
        return
    identity = hub.authority.hub_client().path
    context = tls.client_context(hub.authority.ca_pem, hub.clock, HUB_NAME, (identity, identity))
    await hub.ingest.run(hub.broker.address, context, durable=hub.broker.durable)


def public(hub: Hub) -> web.Application:
    """What the network may reach: enrolment, and whether we are well."""
    app = web.Application(middlewares=[problems])
    app.add_subapp(PREFIX, Enrolment(hub.fleet, hub.authority, hub.signer).application())
    app.add_subapp(UPLOAD_PATH, Uploads(hub, hub.fleet, hub.objects).application())
    app.add_routes([web.get("/health", health_page(hub.health))])
    return app
