"""Sealing at rest (docs/protocol.md, 8): suite id, nonce, AES-256-GCM, a key for each epoch.

A sealed blob is ``suite (1) | nonce (12) | ciphertext and tag``. The additional data names the
place where the blob lies, so a blob that was moved or swapped does not open.
"""

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from .errors import SealBroken
from .identity import Epoch, NodeId

AES_256_GCM = 1
NONCE_BYTES = 12
KEY_BYTES = 32
_SUITE = bytes([AES_256_GCM])


class SealingKey:
    """An AES-256 key that seals and opens; the nonce (12 random bytes) is the caller's."""

    def __init__(self, raw: bytes) -> None:
        if len(raw) != KEY_BYTES:
            raise ValueError(f"a sealing key is {KEY_BYTES} bytes")
        self._aead = AESGCM(raw)

    def seal(self, nonce: bytes, plain: bytes, place: bytes) -> bytes:
        """``plain`` sealed for ``place``; a nonce must never come twice under one key."""
        if len(nonce) != NONCE_BYTES:
            raise ValueError(f"a nonce is {NONCE_BYTES} bytes")
        return _SUITE + nonce + self._aead.encrypt(nonce, plain, place)

    def open(self, sealed: bytes, place: bytes) -> bytes:
        """What was sealed at ``place``; SealBroken if it was changed or comes from elsewhere."""
        if sealed[:1] != _SUITE:
            raise SealBroken(f"sealed with suite {sealed[:1].hex() or 'none'}, which is not ours")
        try:
            return self._aead.decrypt(sealed[1:13], sealed[13:], place)
        except (InvalidTag, ValueError) as error:
            raise SealBroken("changed, moved from its place, or under another key") from error


def record_place(node: NodeId, epoch: Epoch, stream: str, seq: int, version: int = 1) -> bytes:
    """Additional data of a record, or of a run of records that begins at ``seq``."""
    return b"lz/1 record\0" + epoch + f"{node}|{stream}|{seq}|{version}".encode()


def key_place(owner: str, epoch: bytes, kek_version: int) -> bytes:
    """Additional data of an epoch's data key, wrapped by key-encryption key ``kek_version``."""
    return b"lz/1 key\0" + epoch + f"{owner}|{kek_version}".encode()
