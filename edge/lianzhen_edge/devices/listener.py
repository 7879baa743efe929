"""The broker of the wearables as a child of the box, and the box's own session with it."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Final

from lianzhen_edge.appliance.browser_trust import BOX_DOMAIN, BrowserAuthority, own_addresses
from lianzhen_edge.appliance.clock import TrustedClock
from lianzhen_protocol.sheets import Sheets
from lianzhen_runtime import mqtt, tls
from lianzhen_runtime.errors import Unavailable
from lianzhen_runtime.mosquitto import CONFIGURATION, BrokerDied, Mosquitto

from . import broker
from .broker import Listeners
from .sheets import WearableLogin

_USER: Final = "mosquitto"
_MAX_DEVICES: Final = 10_000
_CHECK_SECONDS: Final = 60.0
_LOCAL: Final = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - as asked for


class Listener:
    """``run`` it as a service; ``reload`` after a device came or went."""

    def __init__(
        self,
        folder: Path,
        listeners: Listeners,
        sheets: Callable[[], Sheets],
        authority: BrowserAuthority,
        clock: TrustedClock,
    ) -> None:
        self._listeners = listeners
        self._sheets = sheets
        self._authority = authority
        self._clock = clock
        self._password = secrets.token_urlsafe(32)
        self._logins: list[tuple[str, str]] = []
        self._pair = b""
        port = listeners.port or listeners.plain
        self._daemon = Mosquitto(folder, self._files, port=port, user=_USER)
        self._subscribed = asyncio.Event()
        self.problem = ""
        """Why it does not run, for the device page."""

    @property
    def pid(self) -> int | None:
        """Process id of the broker while it runs."""
        return self._daemon.pid

    def connected(self, device: str) -> bool:
        """Whether a device has a session just now."""
        return bool(self._daemon.sessions.clients(device))

    async def run(self) -> None:
        """Hold the broker; BrokerDied or Unavailable as ``Mosquitto.run``."""
        self._read_logins()
        try:
            await self._daemon.run()
        except (BrokerDied, Unavailable) as error:
            self.problem = str(error)
            raise

    async def reload(self) -> None:
        """Take the devices as they are now: whoever has no password any more is thrown out."""
        self._read_logins()
        await self._daemon.reload()

    async def keep_certificate(self) -> None:
        """A service: new connections get the new certificate, renewed or for new addresses."""
        while True:
            await self.started()
            await asyncio.sleep(_CHECK_SECONDS)
            pair = await asyncio.to_thread(lambda: self._authority.server(own_addresses()))
            if pair.read_bytes() != self._pair:
                await self.reload()

    async def started(self) -> None:
        """Return when the broker takes connections."""
        await self._daemon.started()

    @contextlib.asynccontextmanager
    async def session(self, on_message: mqtt.OnMessage) -> AsyncIterator[mqtt.Session]:
        """The box's own session, subscribed to all vitals; LinkLost if there is none to be had."""
        await self._daemon.started()
        self.problem = ""
        own = self._listeners
        host = _LOCAL.get(own.address, own.address)
        address = mqtt.Address(host, own.port or own.plain)
        context = (
            tls.client_context(self._authority.pem, self._clock.now, BOX_DOMAIN)
            if own.port
            else None
        )
        login = mqtt.Login(broker.CORE, self._password)
        async with mqtt.session(address, broker.CORE, context, on_message, login=login) as opened:
            await opened.subscribe(broker.VITALS.format("+"))
            self._subscribed.set()
            try:
                yield opened
            finally:
                self._subscribed.clear()

    async def ready(self) -> None:
        """Return when devices are heard."""
        await self._subscribed.wait()

    def _read_logins(self) -> None:
        """On the loop's thread, whose sheets these are."""
        found = self._sheets().find(WearableLogin, limit=_MAX_DEVICES)
        salt = secrets.token_bytes(broker.SALT_BYTES)
        self._logins = [(login.id, login.hashed) for login in found]
        self._logins.append((broker.CORE, broker.hashed(self._password, salt)))

    def _files(self) -> Mapping[str, bytes]:
        self._pair = self._authority.server(own_addresses()).read_bytes()
        return {
            broker.CERTIFICATE: self._pair,
            broker.PASSWORDS: broker.password_file(self._logins).encode(),
            broker.ACL: broker.access_list().encode(),
            CONFIGURATION: broker.configuration(self._listeners).encode(),
        }
