"""C-ECHO back to a modality, for the person who sets it up: one try, and what is wrong in a word.

::

    ok                it answered
    port-unknown      nobody entered the port that it listens on
    unreachable       nothing is at this address: switched off, another network, a wrong address
    closed            the address answers, and nothing listens at the port
    silent            somebody takes the connection and says no DICOM in time
    title-unknown     it does not know itself by this AE title
    caller-unknown    it does not know us by our AE title
    rejected          it takes no association now, or refuses for another reason
    aborted           it began and broke off
    no-echo           it associates and does not offer Verification
    failed            it answered the echo with another status than Success
"""

import asyncio
import socket
import time
from typing import Any, Final

import msgspec

LIMIT_SECONDS: Final = 5.0
"""For each step; a modality on the same network answers within a few milliseconds."""
_REJECTED: Final = {(1, 3): "caller-unknown", (1, 7): "title-unknown"}
"""(source, reason) of A-ASSOCIATE-RJ that say more (PS3.8, 9.3.4)."""


class Echo(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it."""

    code: str
    took_ms: int = 0


async def echo(own_title: str, title: str, address: str, port: int) -> Echo:
    """Call a modality by its AE title at an address and port, within a few seconds."""
    if not port:
        return Echo(code="port-unknown")
    return await asyncio.to_thread(_echo, own_title, title, address, port)


def _echo(own_title: str, title: str, address: str, port: int) -> Echo:
    began = time.monotonic()
    code = _reach(address, port) or _associate(own_title, title, address, port)
    return Echo(code=code, took_ms=round((time.monotonic() - began) * 1000))


def _reach(address: str, port: int) -> str:
    """What is wrong with the line; "" if there is somebody."""
    try:
        socket.create_connection((address, port), timeout=LIMIT_SECONDS).close()
    except ConnectionRefusedError:
        return "closed"
    except OSError:
        return "unreachable"
    return ""


def _associate(own_title: str, title: str, address: str, port: int) -> str:
    from pynetdicom import AE, evt  # large, and else not needed by the core
    from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

    entity = AE(ae_title=own_title)
    entity.connection_timeout = entity.acse_timeout = LIMIT_SECONDS
    entity.dimse_timeout = entity.network_timeout = LIMIT_SECONDS
    entity.add_requested_context(Verification)
    began = time.monotonic()
    lines: list[socket.socket] = []

    def opened(event: Any) -> None:
        lines.append(event.assoc.dul.socket.socket)

    handlers: Any = [(evt.EVT_CONN_OPEN, opened)]
    association: Any = entity.associate(address, port, ae_title=title, evt_handlers=handlers)
    try:
        if association.is_established:
            answer = association.send_c_echo()
            return "ok" if "Status" in answer and answer.Status == 0 else "failed"
        if association.is_rejected:
            said = association.acceptor.primitive
            return _REJECTED.get((said.result_source, said.diagnostic), "rejected")
        if association.rejected_contexts:
            return "no-echo"
        return "silent" if time.monotonic() - began >= LIMIT_SECONDS else "aborted"
    finally:
        if association.is_established:
            association.release()
        for line in lines:
            line.close()  # the library leaves it open where the other side hung up
