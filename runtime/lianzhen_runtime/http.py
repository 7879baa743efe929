"""Opening and closing an HTTP server, and the two pages that every program has."""

import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Protocol

from aiohttp import web
from aiohttp.typedefs import Handler
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from .errors import Unavailable
from .problems import json_answer, problems


def _private_socket(path: Path) -> socket.socket:
    """A Unix socket that only its owner may open, in the place of one that was left behind."""
    path.unlink(missing_ok=True)
    made = socket.socket(socket.AF_UNIX)
    try:
        made.bind(str(path))
        path.chmod(0o600)  # before anybody can connect: it does not listen yet
    except BaseException:
        made.close()
        raise
    return made


class _Once(Collector):
    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def exposition(metrics: Iterable[Metric]) -> web.Response:
    """Prometheus' text format, made from what is true now; nothing is kept between scrapes."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Once(list(metrics)))
    return web.Response(
        body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST}
    )


class HasHealth(Protocol):
    """What /health shows; ``ok`` makes the status 200 or 503."""

    @property
    def ok(self) -> bool:
        """Whether the program does its work."""


def health_page(health: Callable[[], HasHealth]) -> Handler:
    """A /health handler: who answers, in which version, and whether it is well."""

    async def page(_request: web.Request) -> web.Response:
        found = health()
        return json_answer(found, 200 if found.ok else 503)

    return page


def probes(
    health: Callable[[], HasHealth], metrics: Callable[[], Iterable[Metric]]
) -> web.Application:
    """What a program shows on its loopback port: /health and /metrics."""
    app = web.Application(middlewares=[problems])

    async def metrics_page(_request: web.Request) -> web.Response:
        return exposition(metrics())

    app.add_routes([web.get("/health", health_page(health)), web.get("/metrics", metrics_page)])
    return app


@contextlib.asynccontextmanager
async def serving(
    app: web.Application,
    *,
    path: Path | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[int]:
    """Serve ``app`` on a Unix socket (``path``, mode 0600) or an address, for a block.

    Gives the port, which matters where 0 asked for any. Unavailable if it is taken.
    """
    runner = web.AppRunner(app, access_log=None, handle_signals=False)
    await runner.setup()
    try:
        try:
            if path is not None:
                await web.SockSite(runner, _private_socket(path)).start()
            else:
                await web.TCPSite(runner, host, port, ssl_context=tls).start()
        except OSError as error:
            where = path or f"{host}:{port}"
            raise Unavailable(
                f"{where} cannot be served: {error.strerror or error}; is another one running?"
            ) from error
        bound = runner.addresses[0]
        yield bound[1] if isinstance(bound, tuple) else 0
    finally:
        await runner.cleanup()
