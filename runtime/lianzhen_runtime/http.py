"""Opening and closing an HTTP server, and the metrics page that every program has."""

import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from .errors import Unavailable


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
