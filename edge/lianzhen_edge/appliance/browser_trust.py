"""How a clinic's PC comes to trust the box: an authority of its own, which it installs once.

A browser gives camera, microphone and crypto to secure pages only, and a box on a clinic's network
has no name that a public authority would certify. So the box makes an authority, and the PC takes
it from the setup page after comparing its fingerprint. What that authority may certify is written
into it, critically (RFC 5280, 4.2.1.10): this box's own names and private addresses. Stolen, it
opens no bank and no hospital. With certificate files of the operator's, none of this is needed.
"""

import ipaddress
import re
import socket
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from lianzhen_runtime.errors import SecretError
from lianzhen_runtime.files import private_folder, read_secret, write_durably
from lianzhen_runtime.tls import Clock

ROOT_LIFE: Final = timedelta(days=3653)
SERVER_LIFE: Final = timedelta(days=90)
MODALITY_LIFE: Final = timedelta(days=5 * 365)
"""Nobody renews a certificate in a scanner."""
BACKDATE: Final = timedelta(days=1)
"""How far the clock of a PC may be behind the box's."""

BOX_DOMAIN: Final = "box.lianzhen.internal"
"""ICANN keeps .internal for private use; a clinic's own DNS may point names below it at a box."""

_NETWORKS: Final = (
    *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "127.0.0.0/8"),
    *("fc00::/7", "fe80::/10", "::1/128"),
)
_USAGES: Final = (
    *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment"),
    *("key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
)
_LABEL: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class BrowserAuthority:
    """The authority and the server certificate below it. ``folder`` is private."""

    def __init__(self, folder: Path, clock: Clock, host: str = "") -> None:
        self._folder = private_folder(folder)
        self._clock = clock
        self._key, self.root = self._load_root(host or socket.gethostname())

    @property
    def der(self) -> bytes:
        """The authority as a PC installs it."""
        return self.root.public_bytes(serialization.Encoding.DER)

    @property
    def pem(self) -> str:
        """The same as text."""
        return self.root.public_bytes(serialization.Encoding.PEM).decode()

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate, as Windows and Chromium show it."""
        digest = sha256(self.der).hexdigest().upper()
        return ":".join(digest[at : at + 2] for at in range(0, len(digest), 2))

    def names(self) -> list[str]:
        """The DNS names that this box may go by."""
        constraints = self.root.extensions.get_extension_for_class(x509.NameConstraints).value
        return [
            name.value
            for name in constraints.permitted_subtrees or ()
            if isinstance(name, x509.DNSName)
        ]

    def server(self, addresses: Iterable[Address]) -> Path:
        """Certificate and key (one file) for the box's names and ``addresses``, kept or renewed.

        Renewed with 1/3 of its life left, or when the addresses changed.
        """
        wanted = x509.SubjectAlternativeName(
            [x509.DNSName(name) for name in self.names()]
            + [x509.IPAddress(address) for address in sorted(set(addresses), key=str)]
        )
        path = self._folder / "server.pem"
        if path.exists() and self._fits(_read(path)[1], wanted):
            return path
        key = ec.generate_private_key(ec.SECP256R1())
        write_durably(path, _pem(key, self._issue(key.public_key(), wanted)))
        return path

    def modality(self, title: str) -> tuple[str, str]:
        """(key, certificate), PEM, with which a modality shows that it is this AE title.

        It is good for calling the box, and for serving nobody.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.DNSName(f"modality.{BOX_DOMAIN}")])
        purpose = ExtendedKeyUsageOID.CLIENT_AUTH
        issued = self._issue(key.public_key(), names, title, purpose, MODALITY_LIFE)
        return _private_pem(key), issued.public_bytes(serialization.Encoding.PEM).decode()

    # -- inside

    def _fits(self, found: x509.Certificate, wanted: x509.SubjectAlternativeName) -> bool:
        begin, end = found.not_valid_before_utc, found.not_valid_after_utc
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        alive = begin <= self._now() < end - (end - begin) / 3
        return alive and found.issuer == self.root.subject and names.value == wanted

    def _now(self) -> datetime:
        return datetime.fromtimestamp(int(self._clock()), UTC)

    def _load_root(self, host: str) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
        path = self._folder / "root.pem"
        if not path.exists():
            key = ec.generate_private_key(ec.SECP256R1())
            write_durably(path, _pem(key, self._self_signed(key, host)))
        return _read(path)

    def _self_signed(self, key: ec.EllipticCurvePrivateKey, host: str) -> x509.Certificate:
        public = key.public_key()
        short = x509.SubjectKeyIdentifier.from_public_key(public).digest.hex()[:8]
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Lianzhen box {short}")])
        label = host.split(".")[0].lower()
        label = label if _LABEL.fullmatch(label) else "lianzhen"
        permitted: list[x509.GeneralName] = [
            x509.DNSName(BOX_DOMAIN),
            x509.DNSName(f"{label}.local"),
            x509.DNSName("localhost"),
            *(x509.IPAddress(ipaddress.ip_network(network)) for network in _NETWORKS),
        ]
        return (
            self._builder(name, name, public, ROOT_LIFE)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage("key_cert_sign", "crl_sign"), critical=True)
            .add_extension(x509.NameConstraints(permitted, None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .sign(key, hashes.SHA256())
        )

    def _issue(
        self,
        key: ec.EllipticCurvePublicKey,
        names: x509.SubjectAlternativeName,
        name: str = BOX_DOMAIN,
        purpose: x509.ObjectIdentifier = ExtendedKeyUsageOID.SERVER_AUTH,
        life: timedelta = SERVER_LIFE,
    ) -> x509.Certificate:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return (
            self._builder(self.root.subject, subject, key, life)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage("digital_signature"), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(names, critical=False)
            .add_extension(issuer, critical=False)
            .sign(self._key, hashes.SHA256())
        )

    def _builder(
        self,
        issuer: x509.Name,
        subject: x509.Name,
        key: ec.EllipticCurvePublicKey,
        life: timedelta,
    ) -> x509.CertificateBuilder:
        serial = x509.random_serial_number()
        return (
            x509.CertificateBuilder(issuer, subject, key, serial)
            .not_valid_before(self._now() - BACKDATE)
            .not_valid_after(self._now() + life)
        )


def own_addresses(
    interfaces: Callable[[], list[Address]] | None = None,
) -> list[Address]:
    """This machine's addresses that the authority may certify: private, loopback, link-local."""
    networks = [ipaddress.ip_network(network) for network in _NETWORKS]
    found = [*(interfaces or _interface_addresses)(), ipaddress.ip_address("127.0.0.1")]
    return [one for one in dict.fromkeys(found) if any(one in network for network in networks)]


def _interface_addresses() -> list[Address]:
    """Every local address, as the kernel's routing tables name them (man 5 proc)."""
    found: list[Address] = []
    address = ""
    for line in _lines("/proc/net/fib_trie"):
        words = line.split()
        if words[:1] == ["|--"]:
            address = words[1]
        elif words[:2] == ["/32", "host"] and words[2:] == ["LOCAL"]:
            found.append(ipaddress.ip_address(address))
    sixth = [line.split()[0] for line in _lines("/proc/net/if_inet6")]
    return [*found, *(ipaddress.IPv6Address(bytes.fromhex(one)) for one in sixth)]


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []  # a kernel without that protocol


def _usage(*uses: str) -> x509.KeyUsage:
    return x509.KeyUsage(**{usage: usage in uses for usage in _USAGES})


def _pem(key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> bytes:
    return _private_pem(key).encode() + certificate.public_bytes(serialization.Encoding.PEM)


def _private_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


def _read(path: Path) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    content = read_secret(path)
    try:
        key = serialization.load_pem_private_key(content, password=None)
        certificate = x509.load_pem_x509_certificate(content)
    except ValueError as error:
        raise SecretError(
            f"{path} is damaged; remove it, and install the box's authority on the PCs anew"
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise SecretError(f"{path} holds a key of another kind; remove it")
    return key, certificate
