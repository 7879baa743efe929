"""What a certificate request is worth: its key, and the proof that the asker holds it."""

from hashlib import sha256

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec

from .authority import spki_der
from .errors import CsrRefused


def requested_key(csr: str) -> ec.EllipticCurvePublicKey:
    """The public key of a CSR (PEM) that its own key signed. Subject and names are ignored.

    CsrRefused for all but a well-signed request over an EC P-256 key.
    """
    try:
        request = x509.load_pem_x509_csr(csr.encode())
        key, signed = request.public_key(), request.is_signature_valid
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise CsrRefused("the certificate request cannot be read") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise CsrRefused("the certificate request must be over an EC P-256 key")
    if not signed:
        raise CsrRefused("the certificate request is not signed by its own key")
    return key


def fingerprint(key: ec.EllipticCurvePublicKey) -> bytes:
    """SHA-256 of the key's SubjectPublicKeyInfo."""
    return sha256(spki_der(key)).digest()
