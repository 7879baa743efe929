"""The hub's signature: for one node, one message, one question."""

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from lianzhen_protocol import hello, signing
from lianzhen_protocol.errors import SignatureInvalid
from lianzhen_protocol.hello import Ack, Refused, SayHello, Signed, Welcome
from lianzhen_protocol.identity import NodeId
from lianzhen_protocol.marks import Position, StreamMark

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key()
NODE, OTHER = NodeId("n0123456789ab"), NodeId("n0123456789ac")
MARKS = (StreamMark("record", Position(9, b"h" * 32), 9),)
ANSWERS: list[Welcome | Ack | Refused] = [
    Welcome(session=b"s" * 16, protocol=1, now_ms=5, credit=9, marks=MARKS),
    Ack(session=b"s" * 16, epoch=b"e" * 16, now_ms=5, credit=9, marks=MARKS),
    Refused(session=b"s" * 16, code="revoked", reason="revoked"),
]


def signed(answer: Welcome | Ack | Refused, node: NodeId = NODE) -> Signed:
    """An answer as it arrives."""
    message = hello.decode(signing.sign(KEY, node, answer))
    assert isinstance(message, Signed)
    return message


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda a: type(a).__name__)
def test_what_the_hub_signed_for_this_box_is_believed(answer: Welcome | Ack | Refused) -> None:
    assert signing.verify(PUBLIC, NODE, signed(answer)) == answer


def test_what_was_signed_for_another_box_is_not_believed() -> None:
    with pytest.raises(SignatureInvalid):
        signing.verify(PUBLIC, OTHER, signed(ANSWERS[1]))


def test_a_changed_message_or_signature_is_not_believed() -> None:
    good = signed(ANSWERS[1])
    for field in ("message", "signature"):
        for at in range(len(getattr(good, field))):
            raw = bytearray(getattr(good, field))
            raw[at] ^= 1
            changed = msgspec.structs.replace(good, **{field: bytes(raw)})
            with pytest.raises(SignatureInvalid):
                signing.verify(PUBLIC, NODE, changed)


def test_another_key_or_a_signature_of_another_length_is_not_believed() -> None:
    good = signed(ANSWERS[0])
    stranger = Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key()
    with pytest.raises(SignatureInvalid):
        signing.verify(stranger, NODE, good)
    with pytest.raises(SignatureInvalid):
        signing.verify(PUBLIC, NODE, msgspec.structs.replace(good, signature=b""))


def test_a_signature_lends_no_weight_to_what_is_no_answer() -> None:
    for body in (hello.encode(SayHello()), b"\xc1"):
        signature = KEY.sign(b"lz/1 ack\0" + NODE.encode() + body)
        with pytest.raises(SignatureInvalid):
            signing.verify(PUBLIC, NODE, Signed(message=body, signature=signature))


def test_the_time_is_believed_once_for_the_question_that_was_asked() -> None:
    answer = signing.sign_time(KEY, "nonce-1", 1_700_000_000_000)
    assert signing.verify_time(PUBLIC, "nonce-1", answer) == 1_700_000_000_000
    with pytest.raises(SignatureInvalid):
        signing.verify_time(PUBLIC, "nonce-2", answer)
    for change in ({"nonce": "nonce-2"}, {"now_ms": 1}, {"signature": "zz"}, {"signature": ""}):
        with pytest.raises(SignatureInvalid):
            signing.verify_time(PUBLIC, "nonce-1", msgspec.structs.replace(answer, **change))


def test_a_signed_time_is_no_acknowledgement() -> None:
    answer = signing.sign_time(KEY, "nonce", 1)
    wire = Signed(message=b"nonce|1", signature=bytes.fromhex(answer.signature))
    with pytest.raises(SignatureInvalid):
        signing.verify(PUBLIC, NODE, wire)
