"""Sealing at rest (docs/protocol.md, 8): suite id, nonce, AES-256-GCM, a key for each epoch.

A sealed blob is ``suite (1) | nonce (12) | ciphertext and tag``. The additional data names the
place where the blob lies, so a blob that was moved or swapped does not open.
"""

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import GCM

from .errors import SealBroken
from .identity import Epoch, NodeId

AES_256_GCM = 1
NONCE_BYTES = 12
KEY_BYTES = 32
TAG_BYTES = 16
ADDED_BYTES = 1 + NONCE_BYTES + TAG_BYTES
"""So much longer is a blob than what is in it."""
_SUITE = bytes([AES_256_GCM])


class SealingKey:
    """An AES-256 key that seals and opens; the nonce (12 random bytes) is the caller's."""

    def __init__(self, raw: bytes) -> None:
        if len(raw) != KEY_BYTES:
            raise ValueError(f"a sealing key is {KEY_BYTES} bytes")
        self._raw, self._aead = raw, AESGCM(raw)

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

    def sealer(self, nonce: bytes, place: bytes) -> "Sealer":
        """The same as `seal`, for what comes piece by piece."""
        if len(nonce) != NONCE_BYTES:
            raise ValueError(f"a nonce is {NONCE_BYTES} bytes")
        return Sealer(self._raw, nonce, place)


class Sealer:
    """A blob that is sealed where it lies: ``head``, then what `seal` made of it, then `end`."""

    def __init__(self, raw: bytes, nonce: bytes, place: bytes) -> None:
        self.head = _SUITE + nonce
        self._encryptor = Cipher(AES(raw), GCM(nonce)).encryptor()
        self._encryptor.authenticate_additional_data(place)

    def seal(self, piece: memoryview) -> None:
        """Turn the next piece, which is writable, into what it is sealed."""
        self._encryptor.update_into(piece, piece)

    def end(self) -> bytes:
        """The last bytes of the blob."""
        self._encryptor.finalize()
        return self._encryptor.tag


def record_place(node: NodeId, epoch: Epoch, stream: str, seq: int, version: int = 1) -> bytes:
    """Additional data of a record, or of a run of records that begins at ``seq``."""
    return b"lz/1 record\0" + epoch + f"{node}|{stream}|{seq}|{version}".encode()


def key_place(owner: str, epoch: bytes, kek_version: int) -> bytes:
    """Additional data of an epoch's data key, wrapped by key-encryption key ``kek_version``."""
    return b"lz/1 key\0" + epoch + f"{owner}|{kek_version}".encode()
