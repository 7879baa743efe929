"""A small CA for a peer's own TLS: both sides show a certificate, as ours do."""

import datetime
import ipaddress
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_DAY = datetime.timedelta(days=1)


class Files(NamedTuple):
    """PEM files: the CA's certificate, and certificate and key of both sides."""

    ca: Path
    server: Path
    server_key: Path
    client: Path
    client_key: Path


def certificates(folder: Path) -> Files:
    """A new CA and a certificate for each side, on P-256 and for loopback."""
    authority = ec.generate_private_key(ec.SECP256R1())
    issuer = _name("bench CA")
    files = Files(*(folder / f"{name}.pem" for name in Files._fields))
    files.ca.write_bytes(_certificate(issuer, authority, issuer, authority, is_ca=True))
    sides = ((files.server, files.server_key, "hub"), (files.client, files.client_key, "edge"))
    for certificate, key_file, name in sides:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate.write_bytes(_certificate(_name(name), key, issuer, authority, is_ca=False))
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
    return files


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _certificate(
    subject: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Name,
    authority: ec.EllipticCurvePrivateKey,
    *,
    is_ca: bool,
) -> bytes:
    now = datetime.datetime.now(datetime.UTC)
    loopback = x509.IPAddress(ipaddress.IPv4Address("127.0.0.1"))
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _DAY)
        .not_valid_after(now + _DAY)
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([loopback]), critical=False)
    )
    return builder.sign(authority, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
