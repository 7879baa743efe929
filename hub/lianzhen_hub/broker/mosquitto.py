"""The hub's mosquitto: client certificates and nothing else, revocations, ended sessions."""

import asyncio
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from lianzhen_hub.fleet.authority import Authority
from lianzhen_protocol.identity import HUB_NAME
from lianzhen_runtime import mqtt, tls
from lianzhen_runtime.broker_log import Sessions
from lianzhen_runtime.log import Log
from lianzhen_runtime.mosquitto import CONFIGURATION, Mosquitto

from .configuration import ACL, CA, CRL, SERVER, BrokerSettings, access_list, configuration

_KICK_SECONDS: Final = 5.0
_KICK_ROUNDS: Final = 3
_log = Log("lianzhen.broker")


def own_address(listen: str, port: int) -> mqtt.Address:
    """Where this machine reaches a broker that listens on ``listen``."""
    own = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104
    return mqtt.Address(own.get(listen, listen), port)


class Broker:
    """One mosquitto. ``run`` is a service for ``supervised``; it waits for the first ``reload``.

    ``names`` are further names of the hub's server certificate (``Authority.issue_hub``).
    """

    durable = False
    """It keeps nothing for anybody; one that does lets the hub take its session up again."""

    def __init__(
        self,
        folder: Path,
        settings: BrokerSettings,
        authority: Authority,
        *,
        names: Sequence[str] = (),
        clock: tls.Clock = time.time,
    ) -> None:
        self._settings = settings
        self._authority = authority
        self._names = tuple(names)
        self._clock = clock
        self._crl = b""
        self._crl_at = -math.inf
        self._denied: frozenset[str] = frozenset()
        self._prepared = asyncio.Event()
        self._daemon = Mosquitto(folder, self._files, port=settings.port, user=settings.user)

    @property
    def pid(self) -> int | None:
        """Process id of the running broker."""
        return self._daemon.pid

    @property
    def sessions(self) -> Sessions:
        """Who is connected."""
        return self._daemon.sessions

    @property
    def crl_age_s(self) -> float:
        """Seconds since the revocation list in use was made; infinite before the first."""
        return time.monotonic() - self._crl_at

    @property
    def address(self) -> mqtt.Address:
        """Where the hub's own sessions connect to."""
        return own_address(self._settings.address, self._settings.port)

    async def started(self) -> None:
        """Return when the broker takes connections."""
        await self._daemon.started()

    async def run(self) -> None:
        """Hold a broker until it dies (BrokerDied) or cannot start (Unavailable)."""
        await self._prepared.wait()
        await self._daemon.run()

    async def reload(self, crl: bytes, denied: Iterable[str]) -> None:
        """Put a revocation list (PEM) and the denied nodes into force, also at the next start.

        When this returns, every new connection is judged by them. TimeoutError if the broker
        does not react. Live sessions of a revoked certificate stay: ``kick`` them.
        """
        self._crl, self._denied = crl, frozenset(denied)
        await self._daemon.reload()
        self._prepared.set()
        self._crl_at = time.monotonic()

    async def kick(self, node: str) -> int:
        """End every live session of a node; the number of sessions ended.

        The hub connects under the session's client id, and the broker drops the older session
        (MQTT 5, 3.1.4-3). Client ids are random, so no other box can do the same.
        """
        ended = 0
        for _ in range(_KICK_ROUNDS):
            clients = self.sessions.clients(node)
            if not clients:
                break
            for client in clients:
                await self._take_over(client)
                ended += 1
        if ended:
            _log.info("sessions ended", node=node, count=ended)
        return ended

    # -- inside

    async def _take_over(self, client: str) -> None:
        identity = self._authority.hub_client().path
        context = tls.client_context(
            self._authority.ca_pem, self._clock, HUB_NAME, (identity, identity)
        )
        async with (
            asyncio.timeout(_KICK_SECONDS),
            mqtt.session(self.address, client, context, lambda _topic, _payload: None),
        ):
            pass

    def _files(self) -> Mapping[str, bytes]:
        return {
            CA: self._authority.ca_pem.encode(),
            SERVER: self._authority.issue_hub(self._names).path.read_bytes(),
            CRL: self._crl,
            ACL: access_list(self._denied).encode(),
            CONFIGURATION: configuration(self._settings).encode(),
        }
