"""The broker of the wearables as a child of the box, and the box's own session with it."""

import contextlib
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Final

from lianzhen_edge.appliance.clock import TrustedClock
from lianzhen_edge.appliance.local_ca import BOX_NAME, LocalAuthority
from lianzhen_protocol.sheets import Sheets
from lianzhen_runtime import mqtt, tls
from lianzhen_runtime.errors import Unavailable
from lianzhen_runtime.mosquitto import CONFIGURATION, BrokerDied, Mosquitto

from . import broker
from .broker import Listeners
from .sheets import WearableLogin

_USER: Final = "mosquitto"
_MAX_DEVICES: Final = 10_000
_LOCAL: Final = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - as asked for


class Listener:
    """``run`` it as a service; ``reload`` after a device came or went."""

    def __init__(
        self,
        folder: Path,
        listeners: Listeners,
        sheets: Callable[[], Sheets],
        authority: LocalAuthority,
        clock: TrustedClock,
    ) -> None:
        self._listeners = listeners
        self._sheets = sheets
        self._authority = authority
        self._clock = clock
        self._password = secrets.token_urlsafe(32)
        self._logins: list[tuple[str, str]] = []
        port = listeners.port or listeners.plain
        self._daemon = Mosquitto(folder, self._files, port=port, user=_USER)
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

    @contextlib.asynccontextmanager
    async def session(self, on_message: mqtt.OnMessage) -> AsyncIterator[mqtt.Session]:
        """The box's own session, subscribed to all vitals; LinkLost if there is none to be had."""
        await self._daemon.started()
        self.problem = ""
        own = self._listeners
        host = _LOCAL.get(own.address, own.address)
        address = mqtt.Address(host, own.port or own.plain)
        context = (
            tls.client_context(self._authority.ca_pem, self._clock.now, BOX_NAME)
            if own.port
            else None
        )
        login = mqtt.Login(broker.CORE, self._password)
        async with mqtt.session(address, broker.CORE, context, on_message, login=login) as opened:
            await opened.subscribe(broker.VITALS.format("+"))
            yield opened

    def _read_logins(self) -> None:
        """On the loop's thread, whose sheets these are."""
        found = self._sheets().find(WearableLogin, limit=_MAX_DEVICES)
        salt = secrets.token_bytes(broker.SALT_BYTES)
        self._logins = [(login.id, login.hashed) for login in found]
        self._logins.append((broker.CORE, broker.hashed(self._password, salt)))

    def _files(self) -> Mapping[str, bytes]:
        pair = self._authority.server_pair(own_names(), self._clock.now())
        return {
            broker.CERTIFICATE: pair.read_bytes(),
            broker.PASSWORDS: broker.password_file(self._logins).encode(),
            broker.ACL: broker.access_list().encode(),
            CONFIGURATION: broker.configuration(self._listeners).encode(),
        }


def own_names() -> set[str]:
    """What a device of the clinic may call this box: its names and the addresses it has now."""
    name = socket.gethostname()
    found = {"localhost", "127.0.0.1", name, f"{name}.local"}
    with contextlib.suppress(OSError):  # a name that nobody resolves: the others are left
        found |= {str(info[4][0]) for info in socket.getaddrinfo(name, None, socket.AF_INET)}
    return found
