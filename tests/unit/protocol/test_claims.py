"""Claims: read from paper and typed by hand, and proofs that are good for one key only."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lianzhen_protocol import claims
from lianzhen_protocol.claims import Claim
from lianzhen_protocol.errors import ClaimError
from lianzhen_protocol.identity import ALPHABET

codes = st.binary(min_size=16, max_size=16)
CLAIM = Claim("https://hub.example:8443", "BX-0042", bytes(range(16)), bytes(range(32)))


@given(codes, st.binary(min_size=32, max_size=32))
def test_a_printed_claim_is_read_back(code: bytes, pin: bytes) -> None:
    claim = CLAIM._replace(code=code, pin=pin)
    assert claims.parse(f"  {claim}\n") == claim


@given(codes)
def test_a_code_is_read_however_a_person_types_it(code: bytes) -> None:
    text = claims.code_text(code)
    spoken = text.replace("0", "o").replace("1", "L").replace("-", " ").lower()
    assert claims.code_bytes(text) == claims.code_bytes(spoken) == code


def slips(code: bytes) -> list[bool]:
    """For every digit and every other digit in its place: is it noticed?"""
    digits = claims.code_text(code).replace("-", "").lower()
    found = []
    for at, right in enumerate(digits):
        for wrong in ALPHABET:
            if wrong == right:
                continue
            try:
                claims.code_bytes(digits[:at] + wrong + digits[at + 1 :])
                found.append(False)
            except ClaimError:
                found.append(True)
    return found


def test_one_wrong_digit_is_noticed_thirty_one_times_in_thirty_two() -> None:
    found = [caught for seed in range(40) for caught in slips(bytes([seed]) * 16)]
    missed = 1 - sum(found) / len(found)
    assert len(found) == 40 * 27 * 31
    assert abs(missed - 1 / 32) < 0.004


@given(codes, st.integers(0, 30))
def test_a_wrong_check_digit_is_always_noticed(code: bytes, shift: int) -> None:
    text = claims.code_text(code)
    wrong = ALPHABET[(ALPHABET.index(text[-1].lower()) + 1 + shift) % 32]
    with pytest.raises(ClaimError, match="typing error"):
        claims.code_bytes(text[:-1] + wrong)


@given(st.text(max_size=60))
def test_any_text_is_a_code_or_a_claim_error(text: str) -> None:
    with pytest.raises(ClaimError):
        claims.code_bytes(text)


@given(st.text(max_size=200).map(lambda tail: f"lianzhen:claim?{tail}") | st.text(max_size=200))
def test_any_text_is_a_claim_error(text: str) -> None:
    with pytest.raises(ClaimError):
        claims.parse(text)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("lianzhen:", "https:"),
        ("claim?", "other?"),
        ("https%3A", "http%3A"),
        ("hub.example", "%5B"),
        ("%3A8443", "%3A99999"),
        ("BX-0042", "bx"),
        ("&pin=", "&pin=00"),
        ("&pin=", "&nip="),
        ("&pin=", "&pin=zz"),
    ],
)
def test_a_damaged_claim_says_so(old: str, new: str) -> None:
    text = str(CLAIM)
    assert old in text
    with pytest.raises(ClaimError):
        claims.parse(text.replace(old, new))


@pytest.mark.parametrize("text", ["", "AB", "-AB", "ab1", "A" * 33, "A_B", "ABC\n"])
def test_what_is_no_box_id(text: str) -> None:
    with pytest.raises(ClaimError):
        claims.box_id(text)


def test_a_proof_binds_code_nonce_box_and_key() -> None:
    key = claims.claim_key(CLAIM.code)
    proof = claims.proof(key, "nonce", "BX-0042", b"spki")
    others = {
        claims.proof(claims.claim_key(bytes(16)), "nonce", "BX-0042", b"spki"),
        claims.proof(key, "another", "BX-0042", b"spki"),
        claims.proof(key, "nonce", "BX-0043", b"spki"),
        claims.proof(key, "nonce", "BX-0042", b"another"),
    }
    assert len(others) == 4
    assert proof not in others


def test_a_reapproval_challenge_is_nobody_elses() -> None:
    one = claims.reapproval_challenge("nonce", "n0123456789ab", b"spki")
    assert one != claims.reapproval_challenge("nonce", "n0123456789ac", b"spki")
    assert one.startswith(b"lz/1 reapprove|")
