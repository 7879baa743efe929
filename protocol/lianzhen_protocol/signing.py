"""The hub's signature on what a box acts upon (docs/protocol.md, 8).

Ed25519 (RFC 8032) over a domain, the node and the message, under a key that the hub's CA
certifies with the CN ``hub-signing``. A box knows the CA, so the key may change at any time.
"""

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from .errors import MessageError, SignatureInvalid
from .hello import Ack, Refused, Signed, Welcome, decode, encode
from .identity import NodeId

_ACK = b"lz/1 ack\0"
_TIME = b"lz/1 time\0"


class SignedTime(msgspec.Struct, frozen=True, kw_only=True):
    """The hub's answer to "what time is it": bound to the asker's nonce, so it is fresh."""

    nonce: str
    now_ms: int
    signature: str


class TimeAnswer(SignedTime, frozen=True, kw_only=True):
    """The time as it travels: with the signing key's certificate (PEM), as a box knows the CA."""

    certificate: str


def sign(
    key: Ed25519PrivateKey, node: NodeId, message: Welcome | Ack | Refused, certificate: bytes = b""
) -> bytes:
    """Wire bytes of ``message``, signed for ``node``."""
    body = encode(message)
    signature = key.sign(_ACK + node.encode() + body)
    return encode(Signed(message=body, signature=signature, certificate=certificate))


def verify(key: Ed25519PublicKey, node: NodeId, signed: Signed) -> Welcome | Ack | Refused:
    """What the hub signed for this node; SignatureInvalid for all else."""
    try:
        key.verify(signed.signature, _ACK + node.encode() + signed.message)
    except InvalidSignature as error:
        raise SignatureInvalid("an answer that the hub did not sign for this box") from error
    try:
        message = decode(signed.message)
    except MessageError as error:
        raise SignatureInvalid(f"a signature under what is no message: {error}") from error
    if not isinstance(message, Welcome | Ack | Refused):
        raise SignatureInvalid(f"a signed {type(message).__name__} means nothing")
    return message


def sign_time(key: Ed25519PrivateKey, nonce: str, now_ms: int) -> SignedTime:
    """The hub's time for whoever asked with ``nonce``."""
    signature = key.sign(_TIME + f"{nonce}|{now_ms}".encode())
    return SignedTime(nonce=nonce, now_ms=now_ms, signature=signature.hex())


def verify_time(key: Ed25519PublicKey, nonce: str, answer: SignedTime) -> int:
    """The hub's time in ms, if it is the answer to this very question."""
    try:
        key.verify(bytes.fromhex(answer.signature), _TIME + f"{nonce}|{answer.now_ms}".encode())
    except (InvalidSignature, ValueError) as error:
        raise SignatureInvalid("the time was not signed by the hub for this question") from error
    if answer.nonce != nonce:
        raise SignatureInvalid("the time answers another question")
    return answer.now_ms
