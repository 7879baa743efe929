"""A broker that somebody else runs: a cluster, of which any one node may be gone.

It has no list of revoked certificates and no door to end sessions by: it asks the hub about every
connect and topic (``asking``), so who is out can say nothing more, and hears nothing.
"""

import asyncio
import itertools
from collections.abc import Iterable
from urllib.parse import urlsplit

from lianzhen_runtime import mqtt

SCHEME = "mqtts"


def addresses(url: str) -> tuple[mqtt.Address, ...]:
    """``mqtts://host:port,host:port``. ValueError for anything else."""
    parts = urlsplit(url)
    found = []
    for each in parts.netloc.split(","):
        host, _, port = each.rpartition(":")
        if parts.scheme != SCHEME or parts.path.strip("/") or not (host and port.isdigit()):
            raise ValueError(f"broker is 'own' or {SCHEME}://host:port,host:port, not {url!r}")
        found.append(mqtt.Address(host.strip("[]"), int(port)))
    return tuple(found)


class ExternalBroker:
    """Takes the place of the hub's own ``Broker``. Each ``address`` is the next node's."""

    durable = True
    pid: int | None = None
    crl_age_s = 0.0

    def __init__(self, url: str) -> None:
        self._nodes = itertools.cycle(addresses(url))

    @property
    def address(self) -> mqtt.Address:
        """Where to connect to now: whoever asks again has just lost the one before."""
        return next(self._nodes)

    async def started(self) -> None:
        """It is there, as far as we know."""

    async def run(self) -> None:
        """Nothing of it is ours to run."""
        await asyncio.Event().wait()

    async def reload(self, crl: bytes, denied: Iterable[str]) -> None:
        """It asks; there is nothing to tell."""

    async def kick(self, node: str) -> int:
        """What a revoked box publishes next is denied, and ends its session."""
        return 0
