"""Who the box is at its hub, as it lies on the disk.

::

    <folder>/current              number of the identity in use, replaced by one rename
    <folder>/000003/              key.pem, certificate.pem, ca.pem, identity.json; never changed
    <folder>/next.key             a key made for a request that is under way

A certificate and its key are therefore always of one pair, whenever the power fails; and a
request that is repeated after a power cut is over the same key, so it gets the same answer.
"""

import shutil
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from lianzhen_protocol.claims import Issued
from lianzhen_protocol.identity import NodeId, node_id
from lianzhen_runtime.errors import SecretError
from lianzhen_runtime.files import (
    private_folder,
    read_secret,
    remove_durably,
    sync_folder,
    write_durably,
)

_RENEW_AT: Final = 1 / 3
_RENEW_JITTER: Final = 1 / 10
_CURRENT, _NEXT_KEY, _PAST = "current", "next.key", "past.pem"
_KEY, _CERTIFICATE, _CA, _ABOUT = "key.pem", "certificate.pem", "ca.pem", "identity.json"


class _About(msgspec.Struct, frozen=True, kw_only=True):
    node: str
    clinic: str
    hub: str
    mqtt_port: int


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """An enrolled box. Times are seconds since 1970, UTC; the two paths are for TLS."""

    node: NodeId
    clinic: str
    hub: str
    """HTTPS address of the hub."""
    mqtt_host: str
    mqtt_port: int
    ca: str
    """The hub's CA, PEM: the only anchor this box knows."""
    certificate_file: Path
    key_file: Path
    serial: str
    """Hexadecimal, lower case, as a hello says it."""
    not_before: float
    not_after: float

    def due(self, now: float, unit: float) -> bool:
        """Whether to renew: after 1/3 of its life, or up to 1/10 of it later by ``unit`` in [0, 1).

        Early, so that a box may be offline for weeks; spread, so that a fleet is.
        """
        life = self.not_after - self.not_before
        return now >= self.not_before + life * (_RENEW_AT + unit * _RENEW_JITTER)

    def expired(self, now: float) -> bool:
        """Whether the hub's TLS will no longer take this certificate."""
        return now > self.not_after

    def certificate_pem(self) -> str:
        """The certificate's text."""
        return self.certificate_file.read_text()

    def private_key(self) -> ec.EllipticCurvePrivateKey:
        """The key; SecretError if it is missing or others may read it."""
        return _load_key(self.key_file)


def load(folder: Path) -> Identity | None:
    """The identity in use; None on a blank box. SecretError if the disk lost part of it."""
    try:
        number = int((folder / _CURRENT).read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise SecretError(
            f"{folder}/{_CURRENT} is damaged; the box must be claimed anew"
        ) from error
    home = folder / f"{number:06d}"
    try:
        about = msgspec.json.decode((home / _ABOUT).read_bytes(), type=_About)
        certificate = x509.load_pem_x509_certificate((home / _CERTIFICATE).read_bytes())
        ca = (home / _CA).read_text()
    except (OSError, ValueError) as error:
        raise SecretError(f"the identity in {home} is damaged; claim the box anew") from error
    _load_key(home / _KEY)
    return Identity(
        node=node_id(about.node),
        clinic=about.clinic,
        hub=about.hub,
        mqtt_host=urlsplit(about.hub).hostname or "",
        mqtt_port=about.mqtt_port,
        ca=ca,
        certificate_file=home / _CERTIFICATE,
        key_file=home / _KEY,
        serial=f"{certificate.serial_number:x}",
        not_before=certificate.not_valid_before_utc.timestamp(),
        not_after=certificate.not_valid_after_utc.timestamp(),
    )


def next_key(folder: Path) -> ec.EllipticCurvePrivateKey:
    """The key of the request under way, made durable before anybody hears of it."""
    path = private_folder(folder) / _NEXT_KEY
    if path.exists():
        key = _load_key(path)
        current = load(folder)
        if current is None or current.private_key().public_key() != key.public_key():
            return key
        # The power failed between taking the identity into use and forgetting its key here.
    key = ec.generate_private_key(ec.SECP256R1())
    write_durably(path, _key_pem(key))
    return key


def forget_next_key(folder: Path) -> None:
    """Make another key for the next request."""
    remove_durably(folder / _NEXT_KEY)


def install(folder: Path, hub: str, issued: Issued) -> Identity:
    """Take what the hub issued over ``next_key`` into use. ValueError if it does not fit it."""
    key = next_key(folder)
    certificate = x509.load_pem_x509_certificate(issued.certificate.encode())
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if certificate.public_key() != key.public_key():
        raise ValueError("the hub's certificate is over another key")
    if [name.value for name in names] != [node_id(issued.node)]:
        raise ValueError("the hub's certificate is for another node")
    _keep_anchors(folder)
    about = _About(node=issued.node, clinic=issued.clinic, hub=hub, mqtt_port=issued.mqtt_port)
    number = max(_numbers(folder), default=0) + 1
    home = private_folder(folder / f"{number:06d}")
    for name, content in (
        (_KEY, _key_pem(key)),
        (_CERTIFICATE, issued.certificate.encode()),
        (_CA, issued.ca.encode()),
        (_ABOUT, msgspec.json.encode(about)),
    ):
        write_durably(home / name, content)
    sync_folder(folder)
    write_durably(folder / _CURRENT, str(number).encode())
    forget_next_key(folder)
    # A session that is being opened may still read the one before.
    for old in _numbers(folder):
        if old < number - 1:
            shutil.rmtree(folder / f"{old:06d}", ignore_errors=True)
    found = load(folder)
    if found is None:
        raise SecretError(f"the identity just written to {home} is not there")
    return found


def past_anchors(folder: Path) -> str:
    """Every authority that this box ever trusted (PEM): for what was signed under one, not TLS."""
    path = folder / _PAST
    return path.read_text() if path.exists() else ""


def _keep_anchors(folder: Path) -> None:
    """What the identity in use trusts is not forgotten with it."""
    before = load(folder)
    if before is not None and before.ca not in (kept := past_anchors(folder)):
        write_durably(folder / _PAST, (kept + before.ca).encode())


def request_pem(key: ec.EllipticCurvePrivateKey) -> str:
    """A CSR over ``key``. Its subject means nothing: the hub chooses the identity."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "lianzhen box")])
    csr = x509.CertificateSigningRequestBuilder(subject).sign(key, hashes.SHA256())
    return csr.public_bytes(serialization.Encoding.PEM).decode()


def spki_der(holder: ec.EllipticCurvePrivateKey | x509.Certificate) -> bytes:
    """The public key of either as DER SubjectPublicKeyInfo."""
    return holder.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _numbers(folder: Path) -> list[int]:
    return [int(path.name) for path in folder.iterdir() if path.is_dir() and path.name.isdigit()]


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(read_secret(path), password=None)
    except ValueError as error:
        raise SecretError(f"{path} is damaged; the box must be claimed anew") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise SecretError(f"{path} holds a key of another kind")
    return key
