"""The signed bytes: vectors that another signer can be tested by, and no byte that may change."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from lianzhen_protocol import opinion
from lianzhen_protocol.canonical import canonical
from lianzhen_protocol.errors import DocumentError, SignatureInvalid
from lianzhen_protocol.opinion import (
    Document,
    check_digest,
    check_proof,
    check_signature,
    clean,
    document_bytes,
    printed_code,
    read_document,
    read_key,
    read_printed_code,
)
from support.signers import TestCa, document, key_of, sign, signed, spki

VECTORS: Any = json.loads(
    (Path(__file__).parents[2] / "data/vectors/opinion-v1.json").read_text(encoding="utf-8")
)
KEY = key_of(int(VECTORS["key"], 16))
DOCUMENT: bytes = VECTORS["document"].encode()
SIGNATURE = bytes.fromhex(VECTORS["signature"])


def test_the_document_is_read_and_written_alike() -> None:
    assert document_bytes(read_document(DOCUMENT)) == DOCUMENT


def test_the_signature_is_the_vectors_and_holds() -> None:
    assert sign(KEY, DOCUMENT) == SIGNATURE
    check_signature(KEY.public_key(), VECTORS["suite"], DOCUMENT, SIGNATURE)
    found = opinion.signature_input(VECTORS["suite"], DOCUMENT)
    assert found.hex() == VECTORS["signature_input"]
    # as any other library would verify it
    der = bytes.fromhex(VECTORS["signature_der"])
    KEY.public_key().verify(der, found, ec.ECDSA(hashes.SHA256()))
    assert opinion.raw_signature(der) == SIGNATURE


def test_one_changed_byte_anywhere_fails() -> None:
    key = KEY.public_key()
    for at in range(len(DOCUMENT)):
        changed = DOCUMENT[:at] + bytes([DOCUMENT[at] ^ 1]) + DOCUMENT[at + 1 :]
        with pytest.raises(SignatureInvalid):
            check_signature(key, VECTORS["suite"], changed, SIGNATURE)
    for at in range(len(SIGNATURE)):
        changed = SIGNATURE[:at] + bytes([SIGNATURE[at] ^ 1]) + SIGNATURE[at + 1 :]
        with pytest.raises(SignatureInvalid):
            check_signature(key, VECTORS["suite"], DOCUMENT, changed)


@pytest.mark.parametrize("suite", [0, 2, 255, 256, -1])
def test_another_suite_fails(suite: int) -> None:
    with pytest.raises(SignatureInvalid):
        check_signature(KEY.public_key(), suite, DOCUMENT, SIGNATURE)


@pytest.mark.parametrize("length", [0, 63, 65, 128])
def test_a_signature_of_another_length_fails(length: int) -> None:
    with pytest.raises(SignatureInvalid, match="64 bytes"):
        check_signature(KEY.public_key(), 1, DOCUMENT, bytes(length))


def test_a_signature_of_zeros_fails() -> None:
    with pytest.raises(SignatureInvalid):
        check_signature(KEY.public_key(), 1, DOCUMENT, bytes(64))


def test_a_key_on_another_curve_fails() -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    with pytest.raises(SignatureInvalid):
        check_signature(key.public_key(), 1, DOCUMENT, SIGNATURE)
    with pytest.raises(SignatureInvalid, match="P-256"):
        read_key(spki(key))
    with pytest.raises(SignatureInvalid, match="not a public key"):
        read_key(b"rubbish")


# -- the document


@pytest.mark.parametrize(
    "change",
    [
        {"format": "lianzhen/opinion/2"},
        {"id": "A" * 32},
        {"extra": "a field that nobody shows"},
        {"findings": 1},
        {"signed_ms": -1},
        {"signed_ms": "1767225600000"},
        {"findings": "x" * 8001},
        {"patient": None},
    ],
)
def test_another_document_is_refused(change: dict[str, Any]) -> None:
    text = canonical(json.loads(DOCUMENT) | change)
    with pytest.raises(DocumentError):
        read_document(text)


def test_other_bytes_of_the_same_document_are_refused() -> None:
    for text in (DOCUMENT + b"\n", json.dumps(json.loads(DOCUMENT)).encode()):
        with pytest.raises(DocumentError, match="canonical"):
            read_document(text)


@pytest.mark.parametrize("hidden", ["\u202e", "\u200b", "\x00", "\x1b", "\u2066", "\u2028", "\xad"])
def test_what_cannot_be_seen_is_not_signed(hidden: str) -> None:
    with pytest.raises(DocumentError, match="cannot be seen"):
        clean(f"未见{hidden}异常")
    found = json.loads(DOCUMENT) | {"advice": f"未见{hidden}异常"}
    with pytest.raises(DocumentError):
        read_document(canonical(found))


def test_a_name_of_two_lines_is_refused() -> None:
    with pytest.raises(DocumentError, match="one line"):
        read_document(canonical(json.loads(DOCUMENT) | {"clinic": "a\nb"}))


def test_typed_text_is_cleaned_once_and_for_all() -> None:
    assert clean(" a \r\n\tb\rc\n\n") == "a\n b\nc"
    assert clean(clean(" a \r\n\tb\rc\n\n")) == "a\n b\nc"


def test_a_signed_opinion_fits_a_record() -> None:
    ca, key = TestCa(), key_of(3)
    certificate = ca.certificate(key)
    long = "䶮" * 8000
    found = signed(
        key, certificate, document(certificate, findings=long, conclusion=long, advice=long)
    )
    assert len(msgspec.msgpack.encode(found)) < 100_000


def test_every_field_of_the_document_is_in_the_bytes() -> None:
    assert set(json.loads(DOCUMENT)) == set(Document.__struct_fields__)


# -- the printed code


def test_the_printed_code_is_verified_with_the_certificate_alone() -> None:
    found = read_printed_code(VECTORS["printed_code"])
    assert found.digest.hex() == VECTORS["digest"]
    assert printed_code(VECTORS["verify_url"], found) == VECTORS["printed_code"]
    check_digest(KEY.public_key(), found.suite, found.digest, found.signature)
    with pytest.raises(SignatureInvalid):
        check_digest(KEY.public_key(), found.suite, bytes(32), found.signature)
    with pytest.raises(SignatureInvalid, match="32 bytes"):
        check_digest(KEY.public_key(), found.suite, b"", found.signature)


@pytest.mark.parametrize(
    "text",
    ["", "https://x/verify", "https://x/verify?o=1&s=1&h=&g=", "x?o=a&s=b&h=c&g=d", "?o=a&o=b"],
)
def test_another_code_is_refused(text: str) -> None:
    with pytest.raises(DocumentError):
        read_printed_code(text)


# -- the request for a certificate


def test_the_proof_of_the_key_is_the_vectors() -> None:
    given = VECTORS["proof"]
    challenge, proof = bytes.fromhex(given["challenge"]), bytes.fromhex(given["signature"])
    key = bytes.fromhex(VECTORS["spki"])
    assert opinion.proof_input(challenge, given["account"], key).hex() == given["input"]
    assert check_proof(key, challenge, given["account"], proof) == KEY.public_key()
    for nonce, account in ((bytes(32), given["account"]), (challenge, "somebody else")):
        with pytest.raises(SignatureInvalid):
            check_proof(key, nonce, account, proof)
    with pytest.raises(SignatureInvalid):
        check_proof(spki(key_of(5)), challenge, given["account"], proof)
