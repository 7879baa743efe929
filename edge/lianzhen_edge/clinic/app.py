"""The clinic's console: every area's routes behind one guard, over HTTPS on the clinic's network.

It lives in the core process: one door to one state. Areas are added in ``_areas``, one line each.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from functools import partial
from pathlib import Path

from lianzhen_edge.appliance.browser_trust import BrowserAuthority, own_addresses
from lianzhen_edge.box import Box
from lianzhen_edge.journal.journal import Journal
from lianzhen_protocol.accounts import CLINICAL, Account, Role
from lianzhen_runtime.dicomweb.making import Workers
from lianzhen_runtime.http import serving
from lianzhen_runtime.web import certificate, login, staff
from lianzhen_runtime.web.console import Console, ConsoleSettings
from lianzhen_runtime.web.login import Doorman
from lianzhen_runtime.web.routes import Route, Routes
from lianzhen_runtime.web.sessions import Session
from lianzhen_runtime.web.staff import Home, Registry

from . import (
    activation,
    audit,
    consultations,
    dicomweb,
    home,
    imaging,
    money,
    opinions,
    orders,
    people,
    setup,
    tray,
    triage,
    trust,
    vitals,
)
from .store import ClinicStore

HERE = Path(__file__).parent
_CHECK_SECONDS = 60.0
"""How soon a new address of the box is in its certificate."""


class Clinic:
    """Console, accounts and certificate of a box."""

    def __init__(self, box: Box) -> None:
        self._box = box
        settings = ConsoleSettings(
            title="clinic.title",
            cookie=f"clinic-{box.settings.console_port}",
            admits=self._admits,
            place=lambda: box.clinic,
            ready=self._ready,
            strip="vitals/host.html",
            strip_roles=CLINICAL,
            detours={"not-enrolled": "/setup"},
        )
        self.console = Console(
            settings,
            ClinicStore(box),
            box.live,
            lambda: box.clock.now_ms,
            [HERE / "templates"],
            [HERE / "text"],
        )
        self.registry = Registry(Doorman(self.console), self._homes)
        self._workers = Workers(1)
        self.console.add(self._areas())
        box.when_open(self._opened)

    def _areas(self) -> Iterable[Routes]:
        box = self._box
        return (
            home.routes(box),
            people.routes(box),
            tray.routes(box),
            consultations.routes(box),
            triage.routes(box),
            login.routes(self.registry.doorman),
            staff.routes(self.registry),
            opinions.routes(box),
            setup.routes(box, self.registry),
            activation.routes(box, self.registry),
            money.routes(box),
            audit.routes(box),
            imaging.routes(box),
            dicomweb.routes(box, self._workers),
            orders.routes(box),
            vitals.routes(box),
        )

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Serve console and setup page for the length of a block."""
        box = self._box
        authority = box.authority
        box.browser_fingerprint = authority.fingerprint
        pair = partial(self._pair, authority)
        context = certificate.context(pair)
        page = trust.application(self.console.look, authority, box.settings.console_port)
        listen = box.settings.listen
        async with (
            serving(
                self.console.application(),
                host=listen,
                port=box.settings.console_port,
                tls=context,
            ),
            serving(page, host=listen, port=box.settings.setup_port),
            asyncio.TaskGroup() as tasks,
        ):
            keeping = tasks.create_task(
                certificate.keep(context, pair, _CHECK_SECONDS), name="browser certificate"
            )
            try:
                yield
            finally:
                keeping.cancel()
                await self._workers.close()

    def _pair(self, authority: BrowserAuthority) -> tuple[Path, Path]:
        settings = self._box.settings
        if settings.console_certificate and settings.console_key:
            return Path(settings.console_certificate), Path(settings.console_key)
        path = authority.server(own_addresses())
        return path, path

    def _admits(self, account: Account) -> bool:
        """This clinic's own people; patients read theirs at the hub."""
        return account.node == self._box.node and set(account.profile.roles) != {Role.PATIENT}

    async def _homes(self) -> list[Home]:
        return [Home(self._box.node, self._box.clinic)]

    def _ready(self, route: Route) -> None:
        if not route.path.startswith(("/setup", "/language")):
            _ = self._box.journal

    def _opened(self, journal: Journal) -> None:
        """A revoked account or an ended session leaves the live stream at once."""

        def changed(sheets: set[tuple[str, str]]) -> None:
            if any(kind in {Account.SHEET, Session.SHEET} for kind, _ in sheets):
                self.console.live.wake()

        journal.on_change(changed)
