"""The hub's console: every area's routes behind one guard, over HTTPS on a port of its own.

Areas are added in ``_areas``, one line each.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection, Iterable
from pathlib import Path

from lianzhen_hub.dicomweb import routes as dicomweb
from lianzhen_hub.dicomweb import tokens
from lianzhen_hub.hub import Hub
from lianzhen_protocol.accounts import Account, Role
from lianzhen_runtime.dicomweb.making import Workers
from lianzhen_runtime.dicomweb.retrieve import PREFIX
from lianzhen_runtime.http import serving
from lianzhen_runtime.preview import PreviewWorker
from lianzhen_runtime.web import certificate, login, staff
from lianzhen_runtime.web.console import Console, ConsoleSettings
from lianzhen_runtime.web.login import Doorman
from lianzhen_runtime.web.routes import Routes
from lianzhen_runtime.web.sessions import Session
from lianzhen_runtime.web.staff import Home, Registry

from . import (
    audit,
    consultations,
    experts,
    fleet,
    home,
    imaging,
    mine,
    money,
    opinions,
    people,
    signers,
    teaching,
    triage,
    vitals,
)
from .store import HubStore

HERE = Path(__file__).parent
_CHECK_SECONDS = 60.0


class HubConsole:
    """Console and accounts of a hub."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        settings = ConsoleSettings(
            title="hub.title",
            cookie=f"hub-{hub.settings.console_port}",
            admits=_admits,
            bearer=tokens.seated,
            bearer_paths=PREFIX,
        )
        self.console = Console(
            settings, HubStore(hub), hub.live, hub.now_ms, [HERE / "templates"], [HERE / "text"]
        )
        self.registry = Registry(Doorman(self.console), self._homes)
        self._viewer = PreviewWorker()
        self._workers = Workers()
        self.console.add(self._areas())
        hub.on_change(self._changed)

    def _areas(self) -> Iterable[Routes]:
        hub = self._hub
        return (
            home.routes(hub),
            login.routes(self.registry.doorman),
            staff.routes(self.registry),
            fleet.routes(hub),
            people.routes(hub),
            consultations.routes(hub),
            experts.routes(hub),
            mine.routes(hub),
            money.routes(hub),
            audit.routes(hub),
            triage.routes(hub),
            imaging.routes(hub, self._viewer),
            dicomweb.routes(hub, self._workers),
            teaching.routes(hub, self._viewer),
            vitals.routes(hub),
            opinions.routes(hub),
            signers.routes(hub),
        )

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Serve it for the length of a block."""
        settings = self._hub.settings
        context = certificate.context(self._pair)
        app = self.console.application()
        async with (
            serving(app, host=settings.listen, port=settings.console_port, tls=context),
            asyncio.TaskGroup() as tasks,
        ):
            keeping = tasks.create_task(
                certificate.keep(context, self._pair, _CHECK_SECONDS), name="console certificate"
            )
            try:
                yield
            finally:
                keeping.cancel()
                await self.close()

    async def close(self) -> None:
        """End its workers."""
        await self._viewer.close()
        await self._workers.close()

    def _pair(self) -> tuple[Path, Path]:
        settings = self._hub.settings
        if settings.console_certificate and settings.console_key:
            return Path(settings.console_certificate), Path(settings.console_key)
        path = self._hub.authority.issue_hub(settings.names).path
        return path, path

    async def _homes(self) -> list[Home]:
        nodes = await self._hub.boxes()
        clinics = [Home(node.node, node.clinic) for node in nodes if node.status == "active"]
        return [Home("", ""), *clinics]

    def _changed(self, sheets: Collection[tuple[str, str]]) -> None:
        """A revoked account or an ended session leaves the live stream at once."""
        if any(kind in {Account.SHEET, Session.SHEET} for kind, _ in sheets):
            self.console.live.wake()


def _admits(account: Account) -> bool:
    """The hub's own people, and patients of every clinic; a clinic's staff stays at its box."""
    return account.node == "" or set(account.profile.roles) == {Role.PATIENT}
