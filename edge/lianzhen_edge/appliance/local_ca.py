"""The box's own certificate authority, for what speaks to it within the clinic.

Browsers and wearables of the clinic trust it, and the hub's CA has no part in it: a clinic that is
cut off still has its own names. The key never leaves the box.
"""

import ipaddress
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from lianzhen_runtime.files import private_folder, read_secret, write_durably

BOX_NAME: Final = "box.lianzhen.internal"
"""DNS name in every certificate of a box: what the box's own programs check."""

_CA, _SERVER = "ca.pem", "server.pem"
_CA_DAYS: Final = 20 * 365
_SERVER_DAYS: Final = 397  # more is refused by some browsers
_RENEW_DAYS: Final = 120
_BACKDATED: Final = timedelta(days=1)  # a PC's clock may be behind the box's


class LocalAuthority:
    """``folder`` keeps key and certificates, mode 0600; a CA is made if there is none.

    ``now`` is in seconds since 1970, as the box trusts it.
    """

    def __init__(self, folder: Path, now: float, box: str = "") -> None:
        self._folder = private_folder(folder)
        path = folder / _CA
        if not path.exists():
            write_durably(path, _new_ca(now, box))
        pem = read_secret(path)
        self._key = _private_key(pem)
        self._certificate = x509.load_pem_x509_certificate(pem)

    @property
    def ca_pem(self) -> str:
        """The CA's certificate: what a browser or a device has to trust."""
        return self._certificate.public_bytes(serialization.Encoding.PEM).decode()

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the CA's certificate, to compare by eye: pairs of hexadecimal digits."""
        return self._certificate.fingerprint(hashes.SHA256()).hex(":").upper()

    def server_pair(self, names: Iterable[str], now: float) -> Path:
        """A file with key and certificate for these DNS names and addresses, and ``BOX_NAME``.

        The one from before while it is good for long enough and has all the names.
        """
        wanted = {BOX_NAME, *names}
        path = self._folder / _SERVER
        if not path.exists() or not self._good(path, wanted, now):
            write_durably(path, self._issue(wanted, now))
        return path

    def _good(self, path: Path, wanted: set[str], now: float) -> bool:
        found = x509.load_pem_x509_certificate(read_secret(path))
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        renew = found.not_valid_after_utc - timedelta(days=_RENEW_DAYS)
        return (
            found.issuer == self._certificate.subject
            and {str(name.value) for name in names} >= wanted
            and found.not_valid_before_utc <= datetime.fromtimestamp(now, UTC) < renew
        )

    def _issue(self, names: set[str], now: float) -> bytes:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            _begun(_name(BOX_NAME), now, _SERVER_DAYS)
            .issuer_name(self._certificate.subject)
            .public_key(key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(map(_general, sorted(names))), False)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)
            .add_extension(_signed_by(self._key), False)
            .sign(self._key, hashes.SHA256())
        )
        return _pem(key, certificate)


def _new_ca(now: float, box: str) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(f"Lianzhen {box}".strip())
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        _begun(name, now, _CA_DAYS)
        .issuer_name(name)
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        .sign(key, hashes.SHA256())
    )
    return _pem(key, certificate)


def _signed_by(key: ec.EllipticCurvePrivateKey) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())


def _begun(subject: x509.Name, now: float, days: int) -> x509.CertificateBuilder:
    begin = datetime.fromtimestamp(now, UTC) - _BACKDATED
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=days))
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ) + certificate.public_bytes(serialization.Encoding.PEM)


def _private_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(pem, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError("the box's CA has a key of another kind")
    return key
