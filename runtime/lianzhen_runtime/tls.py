"""TLS 1.3 contexts between our own programs: both sides show a certificate of the hub's CA.

Validity in time is judged by a clock that is passed in, since a box without a battery-backed
clock wakes up in 1970 and must neither be locked out by that nor switch checks off: OpenSSL
checks chain, name, purpose and revocation; its one check against the system's clock is replaced
by ours, made inside the handshake, before a byte of the application's passes.
"""

import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509

Clock = Callable[[], float]
"""Seconds since 1970, UTC, as the program trusts them."""

# X509_V_FLAG_NO_CHECK_TIME of openssl/x509_vfy.h, which Python's ssl does not name.
_NO_CHECK_TIME = 0x200000


class NotValidNow(ssl.SSLCertVerificationError):
    """The peer's certificate is not valid at the time that we believe it is."""


def _check_time(der: bytes | None, clock: Clock | None) -> None:
    if der is None or clock is None:
        return
    certificate = x509.load_der_x509_certificate(der)
    now = datetime.fromtimestamp(clock(), UTC)
    if now < certificate.not_valid_before_utc:
        raise NotValidNow(f"the peer's certificate begins {certificate.not_valid_before_utc}")
    if now > certificate.not_valid_after_utc:
        raise NotValidNow(f"the peer's certificate ended {certificate.not_valid_after_utc}")


def client_context(
    ca: str, clock: Clock | None, peer: str, identity: tuple[Path, Path] | None = None
) -> ssl.SSLContext:
    """For a caller: ``ca`` (PEM) is the only anchor; ``identity`` is (certificate, key) for mTLS.

    The other side must be certified as ``peer`` whatever address was dialled, and be valid by
    ``clock``; else the handshake fails with ssl.SSLCertVerificationError. ``clock`` None leaves
    the time out: only for asking the time, whose answer is signed (``signer.SignerTrust``).
    """

    # Python's own hooks for both kinds of TLS object, so that no caller can forget the check.
    class CheckedSocket(ssl.SSLSocket):
        def do_handshake(self, block: bool = False) -> None:
            try:
                super().do_handshake(block)
                _check_time(self.getpeercert(binary_form=True), clock)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                raise
            except OSError:
                self.close()  # paho forgets a socket whose handshake failed
                raise

    class CheckedObject(ssl.SSLObject):
        def do_handshake(self) -> None:
            super().do_handshake()
            _check_time(self.getpeercert(binary_form=True), clock)

    class NamedPeer(ssl.SSLContext):
        sslsocket_class = CheckedSocket
        sslobject_class = CheckedObject

        def wrap_socket(self, *args: Any, **kwargs: Any) -> ssl.SSLSocket:
            return super().wrap_socket(*args, **kwargs | {"server_hostname": peer})

        def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
            return super().wrap_bio(*args, **kwargs | {"server_hostname": peer})

    context = NamedPeer(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cadata=ca)
    context.verify_flags = ssl.VerifyFlags(int(context.verify_flags) | _NO_CHECK_TIME)
    if identity is not None:
        context.load_cert_chain(*identity)
    return context


def server_context(certificate: Path, key: Path, ca: str | None = None) -> ssl.SSLContext:
    """For the hub's HTTPS: with ``ca`` (PEM) a client certificate is asked for, not required."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(certificate, key)
    if ca is not None:
        context.load_verify_locations(cadata=ca)
        context.verify_mode = ssl.CERT_OPTIONAL
    return context
