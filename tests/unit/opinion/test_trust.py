"""Who may sign: every way in which a certificate or a list can be the wrong one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier

from lianzhen_protocol.opinion import OpinionSigned
from lianzhen_protocol.opinion_trust import (
    OPINION_SIGNING,
    Holder,
    RevocationList,
    RevocationListError,
    Standing,
    Verdict,
    judge,
)
from support.signers import (
    DAY,
    HOLDER,
    NOW,
    NOW_MS,
    TestCa,
    document,
    key_of,
    signed,
)

VECTORS: Any = json.loads(
    (Path(__file__).parents[2] / "data/vectors/opinion-v1.json").read_text(encoding="utf-8")
)
CA, KEY = TestCa(), key_of(3)
CERTIFICATE = CA.certificate(KEY)
DAY_MS = 86_400_000
DOCUMENT_SIGNING = ObjectIdentifier("1.3.6.1.5.5.7.3.36")  # the hub's own signing key has this


def verdict(
    found: OpinionSigned, revocations: bytes | None = None, *, ca: TestCa = CA, now_ms: int = NOW_MS
) -> Verdict:
    held = RevocationList(revocations or CA.revocations(), [CA.root])
    return judge(found, [ca.root], held, now_ms)


@pytest.mark.parametrize(
    ("name", "standing"),
    [("nobody", "valid"), ("before", "revoked"), ("after", "valid"), ("leaked", "revoked")],
)
def test_vectors(name: str, standing: str) -> None:
    root = x509.load_der_x509_certificate(bytes.fromhex(VECTORS["root"]))
    held = RevocationList(bytes.fromhex(VECTORS["lists"][name]), [root])
    found = OpinionSigned(
        document=VECTORS["document"].encode(),
        suite=VECTORS["suite"],
        signature=bytes.fromhex(VECTORS["signature"]),
        certificate=bytes.fromhex(VECTORS["certificate"]),
        verify_url=VECTORS["verify_url"],
    )
    assert judge(found, [root], held, VECTORS["now_ms"]).standing == standing


def test_a_sound_opinion_stands() -> None:
    found = verdict(signed(KEY, CERTIFICATE))
    assert (found.standing, found.stands, found.list_ms) == (Standing.VALID, True, NOW_MS)
    assert not found.list_overdue


def test_a_second_anchor_is_as_good() -> None:
    other = TestCa(9, "Another CA")
    held = RevocationList(CA.revocations(), [other.root, CA.root])
    assert judge(signed(KEY, CERTIFICATE), [other.root, CA.root], held, NOW_MS).stands


def test_without_a_list_it_says_so() -> None:
    found = judge(signed(KEY, CERTIFICATE), [CA.root], None, NOW_MS)
    assert (found.standing, found.stands, found.list_ms) == (Standing.UNCHECKED, True, None)


def test_an_old_list_is_named_as_old() -> None:
    found = verdict(signed(KEY, CERTIFICATE), now_ms=NOW_MS + 9 * DAY_MS)
    assert (found.standing, found.list_overdue) == (Standing.VALID, True)


@pytest.mark.parametrize("field", ["document", "signature"])
def test_one_changed_byte_is_changed(field: str) -> None:
    found = signed(KEY, CERTIFICATE)
    raw: bytes = getattr(found, field)
    for at in (0, len(raw) // 2, len(raw) - 1):
        other = raw[:at] + bytes([raw[at] ^ 4]) + raw[at + 1 :]
        assert (
            verdict(msgspec.structs.replace(found, **{field: other})).standing is Standing.CHANGED
        )


@pytest.mark.parametrize(
    "more",
    [
        {"purposes": (ExtendedKeyUsageOID.CLIENT_AUTH,)},
        {"purposes": (DOCUMENT_SIGNING,)},
        {"purposes": (OPINION_SIGNING, ExtendedKeyUsageOID.CLIENT_AUTH)},
        {"purposes": (ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,)},
        {"uses": ("digital_signature",)},
        {"policies": ()},
        {"ca": True},
    ],
)
def test_a_certificate_for_something_else_is_foreign(more: dict[str, Any]) -> None:
    certificate = CA.certificate(KEY, **more)
    assert verdict(signed(KEY, certificate)).standing is Standing.FOREIGN


def test_another_ca_of_the_same_name_is_foreign() -> None:
    certificate = TestCa(8).certificate(KEY)
    assert verdict(signed(KEY, certificate)).standing is Standing.FOREIGN


def test_a_certificate_that_an_experts_certificate_issued_is_foreign() -> None:
    expert = TestCa(8)
    expert.name = x509.load_der_x509_certificate(CERTIFICATE).subject
    expert.key = KEY
    assert verdict(signed(KEY, expert.certificate(KEY))).standing is Standing.FOREIGN


def test_rubbish_is_foreign() -> None:
    found = msgspec.structs.replace(signed(KEY, CERTIFICATE), certificate=b"rubbish")
    assert verdict(found).standing is Standing.FOREIGN


def test_a_key_of_another_kind_is_changed() -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    found = signed(KEY, CERTIFICATE, document(certificate := CA.certificate(key)))
    found = msgspec.structs.replace(found, certificate=certificate)
    assert verdict(found).standing is Standing.CHANGED


@pytest.mark.parametrize("at", range(4))
def test_a_document_that_names_another_signer_is_changed(at: int) -> None:
    fields = list(HOLDER)
    fields[at] = "0" * 32 if at == 0 else "别人"
    found = signed(KEY, CERTIFICATE, document(CERTIFICATE, holder=Holder(*fields)))
    assert verdict(found).standing is Standing.CHANGED


def test_another_certificate_over_the_same_key_is_changed() -> None:
    found = signed(KEY, CERTIFICATE)
    other = CA.certificate(KEY, serial=0x1002)
    assert verdict(msgspec.structs.replace(found, certificate=other)).standing is Standing.CHANGED


@pytest.mark.parametrize(("begin", "end"), [(-9, -1), (1, 9)])
def test_a_signature_outside_the_certificates_time_is_outdated(begin: int, end: int) -> None:
    certificate = CA.certificate(KEY, begin=NOW + begin * DAY, end=NOW + end * DAY)
    assert verdict(signed(KEY, certificate)).standing is Standing.OUTDATED


def test_a_certificate_that_ended_since_still_stands_for_what_it_signed() -> None:
    certificate = CA.certificate(KEY, end=NOW + DAY)
    assert verdict(signed(KEY, certificate), now_ms=NOW_MS + 5 * DAY_MS).stands


def test_revoked_before_the_signature() -> None:
    found = verdict(signed(KEY, CERTIFICATE), CA.revocations({0x1001: NOW - DAY}))
    assert (found.standing, found.revoked_ms) == (Standing.REVOKED, NOW_MS - DAY_MS)


def test_revoked_after_the_signature_stands_and_says_so() -> None:
    found = verdict(signed(KEY, CERTIFICATE), CA.revocations({0x1001: NOW + DAY}))
    assert (found.standing, found.revoked_ms) == (Standing.VALID, NOW_MS + DAY_MS)


def test_a_key_that_others_know_signed_nothing_that_stands() -> None:
    found = verdict(signed(KEY, CERTIFICATE), CA.revocations({0x1001: NOW + DAY}, leaked=True))
    assert found.standing is Standing.REVOKED


@pytest.mark.parametrize(
    "der",
    [
        b"rubbish",
        TestCa(8).revocations(),
        TestCa(7, "Another name").revocations(),
        CA.revocations(scope="urn:lianzhen:boxes"),
    ],
)
def test_a_list_of_somebody_or_something_else_is_refused(der: bytes) -> None:
    with pytest.raises(RevocationListError):
        RevocationList(der, [CA.root])
