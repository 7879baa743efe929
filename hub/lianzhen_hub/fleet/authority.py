"""The hub's certificate authority: an EC P-256 root, made on first start (RFC 5280 profile), and
while it is rotated (``rotation``) the one that follows it.

Everything that is issued has exactly one purpose. Node certificates only authenticate clients,
the hub's server certificate only servers, and the signing certificate (Ed25519) opens no TLS
connection at all: its one extended key usage is document signing (RFC 9336). An expert's
certificate is for opinions alone, over a key that this hub has never seen.
"""

import ipaddress
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from lianzhen_protocol.identity import HUB, HUB_NAME, HUB_SIGNING
from lianzhen_protocol.opinion_trust import (
    CONFIRMED_POLICY,
    LIST_SCOPE,
    OPINION_SIGNING,
    Holder,
    subject,
)
from lianzhen_runtime.errors import SecretError
from lianzhen_runtime.files import private_folder, read_secret, write_durably
from lianzhen_runtime.tls import Clock

ROOT_LIFE: Final = timedelta(days=3653)
NODE_LIFE: Final = timedelta(days=30)
HUB_LIFE: Final = timedelta(days=90)
SIGNER_LIFE: Final = timedelta(days=730)
"""Long: a session is tied to the signing key of its welcome, so it changes at a start only."""

EXPERT_LIFE: Final = timedelta(days=365)

CRL_LIFE: Final = timedelta(days=8)
"""A broker whose CRL is older than this refuses everybody; it is reissued every hour."""

ROOT, NEXT, RETIRED = "root.pem", "next.pem", "retired.pem"
"""Files of ``ca``: the root in force, the one that follows, certificates of those before."""

BACKDATE: Final = timedelta(hours=1)
"""How far a box's or broker's clock may be behind ours before it refuses what we just made."""

_DOCUMENT_SIGNING: Final = ObjectIdentifier("1.3.6.1.5.5.7.3.36")


def _usage(*names: str) -> x509.KeyUsage:
    every = (
        *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment"),
        *("key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
    )
    return x509.KeyUsage(**{name: name in names for name in every})


_LEAF_USAGE: Final = _usage("digital_signature")
_ROOT_USAGE: Final = _usage("key_cert_sign", "crl_sign")
_EXPERT_USAGE: Final = _usage("content_commitment")
_EXPERT_SCOPE: Final = x509.IssuingDistributionPoint(
    [x509.UniformResourceIdentifier(LIST_SCOPE)], None, False, False, None, False, False
)

_PrivateKey = ec.EllipticCurvePrivateKey | Ed25519PrivateKey
_PublicKey = ec.EllipticCurvePublicKey | Ed25519PublicKey


class Pair(NamedTuple):
    """A certificate and its key. ``path`` holds both, PEM, 0600: a pair is never half renewed."""

    path: Path
    certificate: x509.Certificate


class Revoked(NamedTuple):
    """An expert's certificate that ended before its time."""

    serial: int
    when: datetime
    leaked: bool
    """Its key is known to others."""


class Signer(NamedTuple):
    """The key that signs welcomes, acknowledgements and the time, and its certificate."""

    key: Ed25519PrivateKey
    certificate: x509.Certificate

    @property
    def der(self) -> bytes:
        """The certificate as it travels with a welcome."""
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def pem(self) -> str:
        """The certificate as it travels with the time."""
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()


def serial_text(number: int) -> str:
    """A serial as it is stored and said in a hello: lower-case hexadecimal, no leading zeros."""
    return f"{number:x}"


class Authority:
    """Issues everything the fleet is known by. ``folder`` is private; ``clock`` in seconds."""

    def __init__(self, folder: Path, clock: Clock = time.time) -> None:
        self._folder = private_folder(folder)
        self._clock = clock
        self._key, self.root = self._load_root()
        self._issuers = [(self._key, self.root)]
        self.following: x509.Certificate | None = None
        if (folder / NEXT).exists():
            following = _root_of(folder / NEXT)
            self.following = following[1]
            self._issuers.append(following)
        self.ca_pem = "".join(pem_of(root) for _, root in self._issuers)
        """What boxes are given, and what is trusted for TLS: one root, or two."""
        self.anchors = [root for _, root in self._issuers] + self._retired()
        """What an opinion may have been signed under."""
        self._last_list = datetime.fromtimestamp(0, UTC)

    @property
    def spki_pin(self) -> bytes:
        """SHA-256 of the root's SubjectPublicKeyInfo: what a claim prints."""
        return sha256(spki_der(self._key.public_key())).digest()

    def issue_node(
        self, key: ec.EllipticCurvePublicKey, node: str, lifetime: timedelta = NODE_LIFE
    ) -> x509.Certificate:
        """A box's certificate: CN is the node id, good for nothing but being a client."""
        purpose = ExtendedKeyUsageOID.CLIENT_AUTH
        return self._issue(key, node, lifetime, purpose, issuer=self._issuers[-1])

    def issue_hub(self, names: Sequence[str] = ()) -> Pair:
        """The certificate of HTTPS and broker, renewed at 1/3 of its life left.

        ``names`` are DNS names or IP addresses besides ``HUB_NAME``; others mean a new one.
        """
        wanted = x509.SubjectAlternativeName(_general_names((HUB_NAME, *names)))

        def fits(certificate: x509.Certificate) -> bool:
            found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
            return found.value == wanted

        def make(key: _PrivateKey) -> x509.Certificate:
            purpose = ExtendedKeyUsageOID.SERVER_AUTH
            return self._issue(key.public_key(), HUB_NAME, HUB_LIFE, purpose, wanted)

        return self._kept("server", make, fits)[0]

    def hub_client(self) -> Pair:
        """The certificate of the hub's own broker sessions (CN ``hub``)."""

        def make(key: _PrivateKey) -> x509.Certificate:
            return self._issue(key.public_key(), HUB, HUB_LIFE, ExtendedKeyUsageOID.CLIENT_AUTH)

        return self._kept("client", make)[0]

    def signer(self) -> Signer:
        """The signing key. Ask once a start, and keep it for all welcomes of that run."""

        def make(key: _PrivateKey) -> x509.Certificate:
            return self._issue(key.public_key(), HUB_SIGNING, SIGNER_LIFE, _DOCUMENT_SIGNING)

        pair, key = self._kept("signing", make, new_key=Ed25519PrivateKey.generate)
        if not isinstance(key, Ed25519PrivateKey):
            raise SecretError(f"{pair.path} is no Ed25519 key; move it away and start again")
        return Signer(key, pair.certificate)

    def revocation_list(self, revoked: Iterable[tuple[int, datetime]]) -> bytes:
        """A CRL (PEM) of (serial, when), good for ``CRL_LIFE``; one of each root, in one file.

        Each has a thisUpdate and a number above those of the one before (RFC 5280, 5.2.3), also
        within one second: a verifier that holds two lists takes the later one.
        """
        now = datetime.fromtimestamp(int(self._clock()), UTC)
        self._last_list = max(now - BACKDATE, self._last_list + timedelta(seconds=1))
        found = list(revoked)
        return b"".join(self._box_list(issuer, found, now + CRL_LIFE) for issuer in self._issuers)

    def _box_list(
        self,
        issuer: tuple[ec.EllipticCurvePrivateKey, x509.Certificate],
        revoked: list[tuple[int, datetime]],
        ends: datetime,
    ) -> bytes:
        key, root = issuer
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(root.subject)
            .last_update(self._last_list)
            .next_update(ends)
            .add_extension(_authority_id(key), critical=False)
            .add_extension(x509.CRLNumber(int(self._last_list.timestamp())), critical=False)
        )
        for serial, when in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(when)
            builder = builder.add_revoked_certificate(entry.build())
        return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    # -- experts

    def issue_expert(
        self, key: ec.EllipticCurvePublicKey, holder: Holder, lifetime: timedelta = EXPERT_LIFE
    ) -> x509.Certificate:
        """A certificate for signing opinions. ValueError for a name that X.509 does not hold."""
        now = datetime.fromtimestamp(int(self._clock()), UTC)
        serial, policy = x509.random_serial_number(), x509.PolicyInformation(CONFIRMED_POLICY, None)
        builder = (
            x509.CertificateBuilder(self.root.subject, subject(holder), key, serial)
            .not_valid_before(now)  # nothing is signed before somebody confirmed it
            .not_valid_after(min(now + lifetime, self.root.not_valid_after_utc))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_EXPERT_USAGE, critical=True)
            .add_extension(x509.ExtendedKeyUsage([OPINION_SIGNING]), critical=True)
            .add_extension(x509.CertificatePolicies([policy]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(_authority_id(self._key), critical=False)
        )
        return builder.sign(self._key, hashes.SHA256())

    def expert_revocations(self, revoked: Iterable[Revoked], number: int) -> bytes:
        """A CRL (DER) of experts' certificates; ``number`` is above that of the one before."""
        now = datetime.fromtimestamp(int(self._clock()), UTC)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.root.subject)
            .last_update(now)
            .next_update(now + CRL_LIFE)
            .add_extension(_authority_id(self._key), critical=False)
            .add_extension(x509.CRLNumber(number), critical=False)
            .add_extension(_EXPERT_SCOPE, critical=True)
        )
        for serial, when, leaked in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(when)
            if leaked:
                reason = x509.CRLReason(x509.ReasonFlags.key_compromise)
                entry = entry.add_extension(reason, critical=False)
            builder = builder.add_revoked_certificate(entry.build())
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)

    # -- inside

    def _load_root(self) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
        if not (self._folder / ROOT).exists():
            self.new_root(ROOT)
        return _root_of(self._folder / ROOT)

    def new_root(self, name: str) -> None:
        """Make a root and its file; it is taken into use at the next start."""
        key = ec.generate_private_key(ec.SECP256R1())
        write_durably(self._folder / name, _pem(key, self._self_signed(key)))

    def _retired(self) -> list[x509.Certificate]:
        path = self._folder / RETIRED
        return x509.load_pem_x509_certificates(path.read_bytes()) if path.exists() else []

    def _self_signed(self, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
        now = datetime.fromtimestamp(int(self._clock()), UTC)
        public = key.public_key()
        pin = sha256(spki_der(public)).hexdigest()[:8]
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Lianzhen hub CA {pin}")])
        builder = (
            x509.CertificateBuilder(name, name, public, x509.random_serial_number())
            .not_valid_before(now - BACKDATE)
            .not_valid_after(now + ROOT_LIFE)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_ROOT_USAGE, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        )
        return builder.sign(key, hashes.SHA256())

    def _issue(
        self,
        key: _PublicKey,
        common_name: str,
        lifetime: timedelta,
        purpose: ObjectIdentifier,
        names: x509.SubjectAlternativeName | None = None,
        issuer: tuple[ec.EllipticCurvePrivateKey, x509.Certificate] | None = None,
    ) -> x509.Certificate:
        signing, root = issuer or (self._key, self.root)
        now = datetime.fromtimestamp(int(self._clock()), UTC)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        serial = x509.random_serial_number()
        builder = (
            x509.CertificateBuilder(root.subject, subject, key, serial)
            .not_valid_before(now - BACKDATE)
            .not_valid_after(min(now + lifetime, root.not_valid_after_utc))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_LEAF_USAGE, critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(_authority_id(signing), critical=False)
        )
        if names is not None:
            builder = builder.add_extension(names, critical=False)
        return builder.sign(signing, hashes.SHA256())

    def _kept(
        self,
        name: str,
        make: Callable[[_PrivateKey], x509.Certificate],
        fits: Callable[[x509.Certificate], bool] = lambda _certificate: True,
        new_key: Callable[[], _PrivateKey] = lambda: ec.generate_private_key(ec.SECP256R1()),
    ) -> tuple[Pair, _PrivateKey]:
        path = self._folder / f"{name}.pem"
        if path.exists():
            key, certificate = _read_pem(path)
            if self._has_life(certificate) and fits(certificate):
                return Pair(path, certificate), key
        key = new_key()
        certificate = make(key)
        write_durably(path, _pem(key, certificate))
        return Pair(path, certificate), key

    def _has_life(self, certificate: x509.Certificate) -> bool:
        """Of this root, begun, and with more than 1/3 of its life left."""
        begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        now = datetime.fromtimestamp(self._clock(), UTC)
        return certificate.issuer == self.root.subject and begin <= now < end - (end - begin) / 3


def pem_of(certificate: x509.Certificate) -> str:
    """Its text."""
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _root_of(path: Path) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    found, certificate = _read_pem(path)
    if not isinstance(found, ec.EllipticCurvePrivateKey):
        raise SecretError(f"{path} is no EC key; restore it from backup")
    return found, certificate


def _authority_id(key: ec.EllipticCurvePrivateKey) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())


def common_name(certificate: x509.Certificate) -> str:
    """Whose it is; "" if it does not say."""
    found = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if found else ""


def spki_der(key: _PublicKey) -> bytes:
    """A public key as DER SubjectPublicKeyInfo, points uncompressed."""
    return key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _general_names(names: Iterable[str]) -> list[x509.GeneralName]:
    found: list[x509.GeneralName] = []
    for name in dict.fromkeys(names):
        try:
            found.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            found.append(x509.DNSName(name))
    return found


def _pem(key: _PrivateKey, certificate: x509.Certificate) -> bytes:
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return private + certificate.public_bytes(serialization.Encoding.PEM)


def _read_pem(path: Path) -> tuple[_PrivateKey, x509.Certificate]:
    content = read_secret(path)
    try:
        key = serialization.load_pem_private_key(content, password=None)
        certificate = x509.load_pem_x509_certificate(content)
    except ValueError as error:
        raise SecretError(f"{path} is damaged; restore it from backup") from error
    if not isinstance(key, _PrivateKey):
        raise SecretError(f"{path} holds a key of another kind; restore it from backup")
    return key, certificate
