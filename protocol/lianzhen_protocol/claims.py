"""How a blank box becomes a node (docs/protocol.md, 10).

The hub prints a *claim*: where it is, which box is meant, a one-time code of 128 bits and the
pin of its CA's key. The box makes its key itself and proves with the code that this key is the
claimed box's; the code itself never travels. Verbs after EST (RFC 7030).
"""

import hashlib
import hmac
import re
from typing import NamedTuple
from urllib.parse import SplitResult, parse_qs, urlencode, urlsplit

import msgspec

from .errors import ClaimError
from .identity import ALPHABET, base32

CODE_BYTES = 16
_CODE_DIGITS = 26
_BOX = re.compile(r"[A-Z0-9][A-Z0-9-]{2,31}")
_SCHEME = "lianzhen"


class Claim(NamedTuple):
    """What is printed on the box's leaflet, as text and as QR."""

    hub: str
    """HTTPS address, ``https://host:port``."""
    box: str
    code: bytes
    pin: bytes
    """SHA-256 of the hub CA's SubjectPublicKeyInfo, 32 bytes."""

    def __str__(self) -> str:
        fields = {"hub": self.hub, "box": self.box, "code": code_text(self.code)}
        return f"{_SCHEME}:claim?{urlencode(fields | {'pin': self.pin.hex()})}"


def box_id(text: str) -> str:
    """``text`` as the id printed on a box: 3 to 32 of A-Z, 0-9 and the hyphen."""
    if not _BOX.fullmatch(text):
        raise ClaimError(f"not a box id (3 to 32 of A-Z, 0-9, -): {text[:40]!r}")
    return text


def code_text(code: bytes) -> str:
    """A code as people read it: base 32 in groups, the last digit a check digit."""
    digits = base32(code, _CODE_DIGITS)
    digits += ALPHABET[_check(code)]
    return "-".join(digits[at : at + 5] for at in range(0, len(digits), 5)).upper()


def code_bytes(text: str) -> bytes:
    """A code typed by a person (any case, O for 0, I or L for 1); ClaimError on a slip."""
    digits = re.sub(r"[\s-]", "", text).lower().translate(str.maketrans("oil", "011"))
    if len(digits) != _CODE_DIGITS + 1 or any(digit not in ALPHABET for digit in digits):
        raise ClaimError("the claim code has 27 letters and digits; compare it with the leaflet")
    number = 0
    for digit in digits[:-1]:
        number = number << 5 | ALPHABET.index(digit)
    if number >= 1 << 8 * CODE_BYTES or ALPHABET[_check(code := number.to_bytes(16))] != digits[-1]:
        raise ClaimError("the claim code has a typing error; compare it with the leaflet")
    return code


def _check(code: bytes) -> int:
    return hashlib.sha256(b"lz claim check" + code).digest()[0] & 31


def parse(text: str) -> Claim:
    """A claim from the text under the QR code; ClaimError says which part is wrong."""
    parts = _split(text.strip())
    if parts.scheme != _SCHEME or parts.path != "claim":
        raise ClaimError("a claim begins with lianzhen:claim?")
    fields = parse_qs(parts.query, strict_parsing=False)
    try:
        (hub,), (box,), (code,), (pin,) = (fields[key] for key in ("hub", "box", "code", "pin"))
        raw = bytes.fromhex(pin)
    except (KeyError, ValueError) as error:
        raise ClaimError("the claim is cut short: it names hub, box, code and pin") from error
    address = _split(hub)
    if address.scheme != "https" or not address.hostname:
        raise ClaimError("the claim's hub is not an https:// address")
    if len(raw) != hashlib.sha256().digest_size:
        raise ClaimError("the claim's pin is not a SHA-256")
    return Claim(hub, box_id(box), code_bytes(code), raw)


def _split(address: str) -> SplitResult:
    try:
        parts = urlsplit(address)
        _ = parts.port  # raises for a port that is none
    except ValueError as error:
        raise ClaimError(f"the claim has a broken address: {error}") from error
    return parts


def claim_key(code: bytes) -> bytes:
    """What the hub keeps instead of the code, sealed, until the claim is used."""
    return hashlib.sha256(b"lz/1 claim key\0" + code).digest()


def proof(key: bytes, nonce: str, box: str, spki: bytes) -> str:
    """HMAC-SHA-256 that ties a public key (DER SubjectPublicKeyInfo) to a claim and a nonce."""
    message = f"lz/1 enrol|{nonce}|{box}|{hashlib.sha256(spki).hexdigest()}"
    return hmac.new(key, message.encode(), hashlib.sha256).hexdigest()


def reapproval_challenge(nonce: str, node: str, spki: bytes) -> bytes:
    """What an expired box signs with its old key to ask for a certificate over a new one."""
    return f"lz/1 reapprove|{nonce}|{node}|{hashlib.sha256(spki).hexdigest()}".encode()


class EnrolRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """simpleenroll: a CSR (PEM; its subject is ignored) and the proof of the claim."""

    box: str
    nonce: str
    csr: str
    proof: str


class RekeyRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """simplereenroll, over mTLS: a CSR (PEM) over the box's next key."""

    csr: str


class ReapprovalRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From a box whose certificate ran out: a CSR, and the old key's signature (hex)."""

    node: str
    nonce: str
    csr: str
    certificate: str
    signature: str


class Issued(msgspec.Struct, frozen=True, kw_only=True):
    """What the hub answers: the identity that it chose, and where the box will find it."""

    node: str
    clinic: str
    certificate: str
    ca: str
    mqtt_port: int
    now_ms: int


class Nonce(msgspec.Struct, frozen=True, kw_only=True):
    """A nonce of the hub's, good for one request within minutes."""

    nonce: str
