"""The box as a DICOM node: a process of its own, so that no image can stand in an alarm's way.

One port for Verification, Storage and whatever services are registered, one more for the same over
TLS; a thread for each association. A caller that is not admitted is rejected before it may say
anything.
"""

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

from cryptography import x509
from cryptography.x509.oid import NameOID

from lianzhen_edge.settings import Settings
from lianzhen_runtime import log
from lianzhen_runtime.errors import Unavailable
from lianzhen_runtime.files import private_folder
from lianzhen_runtime.keys import FileKeys

from . import pdu, secure
from .arrival import FOLDER, Admissions, Called
from .association import Association, Limits
from .core import Core
from .dimse import LinkGone, Peer, Service
from .notices import Ear, Notices
from .pdu import AssociateRequest, Rejection
from .room import ImageShare
from .segment_log import SegmentLog
from .segments import SegmentReader
from .services.wiring import services
from .storage import Reception
from .wire import Wire

MAX_ASSOCIATIONS: Final = 16
MAX_CONNECTIONS: Final = 64
"""With those that have not said yet who they are."""
SPARE_SEGMENTS: Final = 8
"""A CT of 400 slices comes into segments that are there."""
_RETRY_SECONDS: Final = 0.2

Tls = Callable[[], ssl.SSLContext]
"""Makes the context of a connection."""

_log = log.Log("lianzhen.scp")


class House:
    """Who is let in, how many at once, and what they find."""

    def __init__(
        self,
        reception: Reception,
        admissions: Admissions,
        ear: Ear,
        *,
        services: Sequence[Service] = (),
        title: str = "",
    ) -> None:
        self.reception = reception
        self._admissions, self._ear, self._title = admissions, ear, title
        self.services: Mapping[str, Service] = {
            uid: service for service in services for uid in service.sop_classes
        }
        self._places = threading.BoundedSemaphore(MAX_ASSOCIATIONS)

    def judge(
        self, request: AssociateRequest, peer: Peer, certified: str | None = None
    ) -> Rejection | None:
        """Whether it is let in; if so, it has a place until `leave`.

        ``certified``: the name in its certificate, which has to be its title. A title of ours is
        asked for only if ``title`` says which.
        """
        if not request.version & 1:
            return pdu.VERSION_UNKNOWN
        if request.application_context != pdu.APPLICATION_CONTEXT:
            return pdu.APPLICATION_CONTEXT_UNKNOWN
        admitted = self._admissions.admits(peer.title, peer.address)
        admitted = admitted and certified in (None, peer.title)
        self._ear.tell(Called(title=peer.title, address=peer.address, admitted=admitted))
        if not admitted:
            _log.info("association refused", code="ae-unknown")
            return pdu.CALLING_TITLE_UNKNOWN
        if self._title and request.called != self._title:
            _log.info("association refused", code="ae-called")
            return pdu.CALLED_TITLE_UNKNOWN
        if not self._places.acquire(blocking=False):
            _log.warning("association refused", code="too-many")
            return pdu.TOO_MANY
        return None

    def leave(self) -> None:
        """Give its place back."""
        self._places.release()


class Server:
    """Listens on an address; every connection is one association's thread."""

    def __init__(
        self,
        address: tuple[str, int],
        house: House,
        *,
        tls: Tls | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._house, self._tls, self._limits = house, tls, limits or Limits()
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self._door = socket.create_server(address, family=family, backlog=64)
        self.port: int = self._door.getsockname()[1]
        self._lock = threading.Lock()
        self._open: dict[threading.Thread, socket.socket] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._accept, name="door", daemon=True)
        self._thread.start()

    @property
    def connections(self) -> int:
        """How many there are."""
        with self._lock:
            return len(self._open)

    def close(self) -> None:
        """Let nobody in any more, and end what is open."""
        self._ended.set()
        with contextlib.suppress(OSError):
            self._door.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._door.close()
        with self._lock:
            threads = dict(self._open)
        for connection in threads.values():
            with contextlib.suppress(OSError):
                if self._tls is None:
                    connection.send(pdu.abort(None), socket.MSG_DONTWAIT)
                connection.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()

    def _accept(self) -> None:
        while not self._ended.is_set():
            try:
                connection, address = self._door.accept()
            except OSError as error:  # no descriptor left, or the door was closed
                if not self._ended.wait(_RETRY_SECONDS):
                    _log.warning("nobody can be let in", error=type(error).__name__)
                continue
            self._let_in(connection, address[0])

    def _let_in(self, connection: socket.socket, address: str) -> None:
        thread = threading.Thread(
            target=self._serve, args=(connection, address), name="association", daemon=True
        )
        with self._lock:
            if len(self._open) >= MAX_CONNECTIONS:
                connection.close()
                return
            self._open[thread] = connection
        try:
            thread.start()
        except RuntimeError:  # the system has no thread left
            self._forget(thread)
            connection.close()

    def _forget(self, thread: threading.Thread) -> None:
        with self._lock:
            del self._open[thread]

    def _serve(self, connection: socket.socket, address: str) -> None:
        try:
            self._associate(connection, address)
        except (OSError, LinkGone):
            pass  # it has gone before it began
        except Exception:  # noqa: BLE001 - one association's end, whatever ended it
            _log.error("an association failed", exc_info=True)
        finally:
            connection.close()
            self._forget(threading.current_thread())

    def _associate(self, connection: socket.socket, address: str) -> None:
        if self._tls is None:
            wire = Wire(connection, self._limits.tick)
            Association(wire, self._house, address, self._limits).run()
            return
        connection.settimeout(self._limits.artim)
        with self._tls().wrap_socket(connection, server_side=True) as secured:
            with self._lock:
                self._open[threading.current_thread()] = secured
            house = _Certified(self._house, _common_name(secured))
            wire = Wire(secured, self._limits.tick)
            Association(wire, house, address, self._limits).run()


class _Certified:
    """The house as a caller with a certificate finds it."""

    def __init__(self, house: House, name: str) -> None:
        self._house, self._name = house, name
        self.reception, self.services = house.reception, house.services

    def judge(self, request: AssociateRequest, peer: Peer) -> Rejection | None:
        """The same, and its title is the certificate's."""
        return self._house.judge(request, peer, self._name)

    def leave(self) -> None:
        """Give its place back."""
        self._house.leave()


def _common_name(secured: ssl.SSLSocket) -> str:
    found = x509.load_der_x509_certificate(secured.getpeercert(binary_form=True) or b"")
    names = found.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else ""


async def run(settings: Settings) -> None:
    """Serve until cancelled. Unavailable, in one sentence, for what keeps it from starting."""
    log.configure(settings.log_level)
    log.keep(settings.folder, "scp", settings.log_bytes)
    folder = private_folder(settings.folder / FOLDER)
    keys, share = FileKeys(settings.folder / "keys"), ImageShare.of(settings)
    control = settings.folder / "control.sock"
    notices, core = Notices(control), Core(control)
    with contextlib.ExitStack() as stack:
        segments = SegmentLog(folder, keys, room=share.left, spares=SPARE_SEGMENTS)
        stack.callback(segments.close)
        reader = SegmentReader(folder, keys)
        offered = stack.enter_context(services(core, reader, settings.dicom_ae_title))
        house = House(
            Reception(segments, notices),
            Admissions(folder),
            notices,
            services=offered,
            title=settings.dicom_ae_title if settings.dicom_ae_title_required else "",
        )
        tls = partial(secure.context, settings.folder)
        for port, secured in ((settings.dicom_port, None), (settings.dicom_tls_port, tls)):
            if port:
                stack.callback(serve(settings.listen, port, house, secured).close)
                _log.info("scp runs", port=port)
        await asyncio.Event().wait()


def serve(listen: str, port: int, house: House, tls: Tls | None = None) -> Server:
    """A server; Unavailable if its port cannot be had."""
    try:
        return Server((listen, port), house, tls=tls)
    except OSError as error:
        raise Unavailable(
            f"port {port} cannot be served: {error.strerror}; is another one running?"
        ) from error
