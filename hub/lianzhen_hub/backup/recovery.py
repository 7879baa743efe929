"""Secrets in a backup are sealed to a recovery key, whose private half is on paper and not here.

X25519 (RFC 7748) with a fresh key for each backup, HKDF (RFC 5869) with SHA-256, then a sealed blob
as everywhere. Whoever has the backup alone has neither the hub's authority nor its data keys.
"""

import secrets
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from lianzhen_protocol.claims import CODE_BYTES, code_bytes, code_text
from lianzhen_protocol.errors import ClaimError, SealBroken
from lianzhen_protocol.sealing import KEY_BYTES, NONCE_BYTES, SealingKey
from lianzhen_runtime.errors import SecretError, Unavailable
from lianzhen_runtime.files import write_durably

FILE: Final = "recovery.pub"
_MAGIC: Final = b"LZBACK1\0"
_PLACE: Final = b"lz/1 backup\0"
_PUBLIC_BYTES: Final = 32


def new_recovery_key(folder: Path) -> str:
    """Make a recovery key; its text, which is kept nowhere else. Later backups are sealed to it."""
    private = X25519PrivateKey.generate()
    write_durably(folder / FILE, private.public_key().public_bytes_raw())
    raw = private.private_bytes_raw()
    return "\n".join(code_text(raw[at : at + CODE_BYTES]) for at in (0, CODE_BYTES))


def public_key(folder: Path) -> bytes:
    """What this hub seals its backups to; Unavailable if there is no recovery key yet."""
    try:
        return (folder / FILE).read_bytes()
    except FileNotFoundError as error:
        raise Unavailable(
            "there is no recovery key yet: run 'lianzhen-hub recovery-key' and keep it on paper"
        ) from error


def private_key(text: str) -> X25519PrivateKey:
    """The key as it was printed; SecretError on a slip."""
    halves = text.split()
    try:
        if len(halves) != 2:
            raise ClaimError("a recovery key is two lines of 27 letters and digits")
        return X25519PrivateKey.from_private_bytes(b"".join(code_bytes(half) for half in halves))
    except ClaimError as error:
        raise SecretError(f"this is not a recovery key: {error}") from error


def seal(plain: bytes, public: bytes) -> bytes:
    """For whoever holds the recovery key."""
    fresh = X25519PrivateKey.generate()
    own = fresh.public_key().public_bytes_raw()
    key = _key(fresh, X25519PublicKey.from_public_bytes(public), own, public)
    return _MAGIC + own + key.seal(secrets.token_bytes(NONCE_BYTES), plain, _PLACE)


def unseal(sealed: bytes, private: X25519PrivateKey) -> bytes:
    """The same back; SecretError for another key or a damaged file."""
    begin = len(_MAGIC) + _PUBLIC_BYTES
    own, public = sealed[len(_MAGIC) : begin], private.public_key().public_bytes_raw()
    try:
        if sealed[: len(_MAGIC)] != _MAGIC or len(own) != _PUBLIC_BYTES:
            raise SealBroken("not a sealed backup")
        return _key(private, X25519PublicKey.from_public_bytes(own), own, public).open(
            sealed[begin:], _PLACE
        )
    except SealBroken as error:
        raise SecretError(
            f"this recovery key does not open the backup's secrets: {error}"
        ) from error


def _key(mine: X25519PrivateKey, theirs: X25519PublicKey, own: bytes, public: bytes) -> SealingKey:
    derived = HKDF(hashes.SHA256(), KEY_BYTES, salt=None, info=_PLACE + own + public)
    return SealingKey(derived.derive(mine.exchange(theirs)))
