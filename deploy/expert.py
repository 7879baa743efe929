"""An expert's browser, played in Python: makes the key, seals it, proves it, opens it, signs.

Nothing of the product is used for what a browser does on its own; what a page would show comes
in as the JSON that the hub sent.
"""

from __future__ import annotations

import json
import secrets
import unicodedata
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
)

PASSPHRASE = "正确 马 电池 订书钉"  # noqa: S105 - of an expert who lives for one demonstration
ITERATIONS = 600_000


def request_body(
    challenge: str, account: str, *, title: str = "主任医师", licence: str = "110520000012345"
) -> dict[str, Any]:
    """What POST /signing/request wants; ``challenge`` is what GET /signing/challenge gave."""
    key = ec.generate_private_key(ec.SECP256R1())
    spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    message = b"lz/1 signing request\0" + bytes.fromhex(challenge) + account.encode() + b"\0" + spki
    return {
        "title": title,
        "licence": licence,
        "spki": spki.hex(),
        "proof": raw_signature(key, message),
        "wrapped": wrap(key),
    }


def wrap(key: ec.EllipticCurvePrivateKey, passphrase: str = PASSPHRASE) -> dict[str, Any]:
    """The private key, sealed under the passphrase."""
    salt, nonce = secrets.token_bytes(16), secrets.token_bytes(12)
    plain = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    sealed = AESGCM(_derived(passphrase, salt, ITERATIONS)).encrypt(nonce, plain, None)
    found = {"salt": salt.hex(), "nonce": nonce.hex(), "sealed": sealed.hex()}
    return {"iterations": ITERATIONS, **found}


def unwrap(wrapped: dict[str, Any], passphrase: str = PASSPHRASE) -> ec.EllipticCurvePrivateKey:
    """The other way; InvalidTag for a wrong passphrase."""
    kek = _derived(passphrase, bytes.fromhex(wrapped["salt"]), wrapped["iterations"])
    plain = AESGCM(kek).decrypt(
        bytes.fromhex(wrapped["nonce"]), bytes.fromhex(wrapped["sealed"]), None
    )
    key = load_der_private_key(plain, None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError("a signing key is over P-256")
    return key


def signed_body(to_sign: dict[str, Any], passphrase: str = PASSPHRASE) -> dict[str, Any]:
    """What POST /cases/{id}/opinion/sign wants; ``to_sign`` is what GET of the same gave."""
    key = unwrap(to_sign["wrapped"], passphrase)
    # RFC 8785, for a document whose keys are ASCII
    text = json.dumps(
        to_sign["document"], ensure_ascii=False, sort_keys=True, separators=(",", ":")
    )
    message = b"lz/1 opinion\0" + bytes([to_sign["suite"]]) + text.encode()
    return {"document": text, "suite": to_sign["suite"], "signature": raw_signature(key, message)}


def raw_signature(key: ec.EllipticCurvePrivateKey, message: bytes) -> str:
    """r and s as WebCrypto gives them, hexadecimal."""
    r, s = decode_dss_signature(key.sign(message, ec.ECDSA(hashes.SHA256())))
    return (r.to_bytes(32) + s.to_bytes(32)).hex()


def _derived(passphrase: str, salt: bytes, iterations: int) -> bytes:
    typed = unicodedata.normalize("NFKC", passphrase).encode()
    return PBKDF2HMAC(hashes.SHA256(), 32, salt, iterations).derive(typed)
