"""The certificate that a console shows, and shows anew when it is renewed or replaced."""

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path

from lianzhen_runtime import tls
from lianzhen_runtime.errors import Unavailable
from lianzhen_runtime.log import Log

Pair = Callable[[], tuple[Path, Path]]
"""Where certificate chain and key are now (PEM)."""

_log = Log("lianzhen.console")


def context(pair: Pair) -> ssl.SSLContext:
    """For a server; Unavailable, in one sentence, for files that cannot be used."""
    certificate, key = pair()
    try:
        return tls.server_context(certificate, key)
    except OSError as error:  # ssl.SSLError is one
        raise Unavailable(
            f"the console's certificate {certificate} with key {key} cannot be used: "
            f"{error.strerror or error}"
        ) from error


async def keep(server: ssl.SSLContext, pair: Pair, every_s: float) -> None:
    """Give new connections the certificate that there is then, for ever.

    One that cannot be read at the moment (an operator is replacing it) leaves the last in use.
    """
    while True:
        await asyncio.sleep(every_s)
        try:
            server.load_cert_chain(*pair())
        except OSError as error:
            kind = type(error).__name__
            _log.transition("console certificate", "cannot be read", bad=True, error=kind)
        else:
            _log.transition("console certificate", "in use")
