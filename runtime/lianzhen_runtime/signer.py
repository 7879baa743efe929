"""Whose signature a box believes: a key that the hub's CA certifies as ``hub-signing``."""

from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.x509.oid import NameOID

from lianzhen_protocol.errors import SignatureInvalid
from lianzhen_protocol.identity import HUB_SIGNING


class SignerTrust:
    """The hub's signing key as last introduced by a certificate of its CA (PEM)."""

    def __init__(self, ca: str) -> None:
        self._anchors = x509.load_pem_x509_certificates(ca.encode())
        self._key: Ed25519PublicKey | None = None
        self._known = b""

    @property
    def key(self) -> Ed25519PublicKey:
        """The key; SignatureInvalid before any certificate was learnt."""
        if self._key is None:
            raise SignatureInvalid("signed by a key that was never introduced")
        return self._key

    def learn(self, der: bytes, now: float | None) -> None:
        """Take over the key of a certificate: issued by the CA, for signing, valid at ``now``.

        ``now`` None leaves its time out: for the one answer that tells the time. A certificate
        that fails any of it raises SignatureInvalid and changes nothing.
        """
        if der == self._known and now is None:
            return
        try:
            certificate = x509.load_der_x509_certificate(der)
            self._check_issuer(certificate)
        except ValueError as error:
            raise SignatureInvalid("the signing certificate cannot be read") from error
        names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        if [name.value for name in names] != [HUB_SIGNING]:
            raise SignatureInvalid("signed by a certificate that is not for signing")
        if now is not None:
            when = datetime.fromtimestamp(now, UTC)
            if not certificate.not_valid_before_utc <= when <= certificate.not_valid_after_utc:
                raise SignatureInvalid("the signing certificate is not valid at this time")
        key = certificate.public_key()
        if not isinstance(key, Ed25519PublicKey):
            raise SignatureInvalid("the signing certificate has a key of another kind")
        self._key, self._known = key, der

    def _check_issuer(self, certificate: x509.Certificate) -> None:
        for anchor in self._anchors:
            try:
                certificate.verify_directly_issued_by(anchor)
            except (InvalidSignature, ValueError, TypeError):
                continue
            return
        raise SignatureInvalid("the signing certificate was not issued by the hub's CA")
