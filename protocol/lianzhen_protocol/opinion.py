"""An expert's opinion: the bytes that are signed, and the signature over them (docs/opinion.md).

The document is canonical JSON (RFC 8785) and carries everything that is printed, the patient's
identity as it stands on the paper included. The expert's own browser makes the bytes, shows
them and signs them; hub and box keep exactly those bytes, verify them, and print from them.
"""

import base64
import hashlib
import re
from typing import Annotated, Final, Literal, NamedTuple
from urllib.parse import parse_qs, urlencode, urlsplit

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    Prehashed,
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.serialization import load_der_public_key

from .canonical import canonical, parse
from .errors import DocumentError, NotCanonical, SignatureInvalid
from .records import Body

FORMAT: Final = "lianzhen/opinion/1"
ECDSA_P256_SHA256: Final = 1
"""Suite id, part of what is signed; SM2 with SM3 is to be another one."""

_DOMAIN: Final = b"lz/1 opinion\0"
_PROOF_DOMAIN: Final = b"lz/1 signing request\0"
_HALF: Final = 32
_MAX_TEXT: Final = 8000

# What shows nothing or moves its neighbours: the text that is read must be the text that is signed.
_HIDDEN = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]"
)

Id = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$")]
Line = Annotated[str, msgspec.Meta(max_length=200)]
Text = Annotated[str, msgspec.Meta(max_length=_MAX_TEXT)]
Digest = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
SafeMilliseconds = Annotated[int, msgspec.Meta(ge=0, le=(1 << 53) - 1)]


class PrintedPatient(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whom it is about, as it is printed; ``number`` is masked, ``birth_date`` ISO or empty."""

    id: Id
    name: Line
    sex: Line
    birth_date: Line
    number: Line


class Signer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who signs, as the certificate says; ``certificate`` is the SHA-256 of its DER."""

    id: Id
    name: Line
    title: Line
    licence: Line
    certificate: Digest


class Document(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is signed. A field more is another format: nothing is signed that is not shown."""

    format: Literal["lianzhen/opinion/1"] = FORMAT
    id: Id
    consultation: Id
    amends: Id | None
    """The opinion that this one supplements; that one stays as it is."""
    clinic: Line
    department: Line
    patient: PrintedPatient
    findings: Text
    conclusion: Text
    advice: Text
    signed_ms: SafeMilliseconds
    signer: Signer


class OpinionSigned(Body, frozen=True):
    """A signed opinion on its way to the clinic, with all that its verification needs but the
    hub's CA and the revocation list, which the clinic has."""

    document: bytes
    """Canonical bytes, as the expert's browser made them."""
    suite: int
    signature: bytes
    """Raw r and s, 32 bytes each, big-endian (IEEE P1363), as WebCrypto gives it."""
    certificate: bytes
    """DER."""
    verify_url: str
    """Where the printed code sends whoever scans it."""


class TrustRevocations(Body, frozen=True):
    """The list of revoked signing certificates as of now (RFC 5280 CRL, DER)."""

    revocations: bytes


KINDS: Final[dict[str, dict[int, type[Body]]]] = {
    "opinion.signed": {1: OpinionSigned},
    "trust.revocations": {1: TrustRevocations},
}

TRUST_STREAM: Final = "record.trust"
"""The down stream of opinions and revocation lists: a list goes before what it judges."""


def clean(text: str) -> str:
    """A typed text as it may be signed: one kind of line end, no blanks around it.

    DocumentError for characters that are not seen or that move others.
    """
    lines = re.split(r"\r\n|\r|\n", text.replace("\t", " "))
    text = "\n".join(line.rstrip(" ") for line in lines).strip(" \n")
    if found := _HIDDEN.search(text):
        raise DocumentError(
            f"the character U+{ord(found.group()):04X} cannot be seen on paper; remove it",
            code="opinion-hidden-character",
        )
    return text


def document_bytes(document: Document) -> bytes:
    """The bytes to sign. DocumentError for a text that may not be signed."""
    _refuse_hidden(document)
    return canonical(msgspec.to_builtins(document))


def read_document(signed: bytes) -> Document:
    """What signed bytes say; DocumentError unless they are the only bytes that say it."""
    try:
        document = msgspec.convert(parse(signed), Document)
    except NotCanonical as error:
        raise DocumentError(str(error), code=error.code) from error
    except msgspec.ValidationError as error:
        raise DocumentError(f"not an opinion: {error}") from error
    _refuse_hidden(document)
    return document


def signature_input(suite: int, document: bytes) -> bytes:
    """What the signature is over: its domain, the suite, the document."""
    return _DOMAIN + bytes([suite]) + document


def digest(suite: int, document: bytes) -> bytes:
    """SHA-256 of the signature's input: what the printed code carries, 32 bytes."""
    return hashlib.sha256(signature_input(suite, document)).digest()


def check_signature(
    key: ec.EllipticCurvePublicKey, suite: int, document: bytes, signature: bytes
) -> None:
    """SignatureInvalid unless ``key`` signed just these bytes under this suite."""
    if not 0 <= suite <= 255:
        raise SignatureInvalid(f"there is no suite {suite}")
    check_digest(key, suite, digest(suite, document), signature)


def check_digest(
    key: ec.EllipticCurvePublicKey, suite: int, hashed: bytes, signature: bytes
) -> None:
    """The same with nothing but the printed code at hand."""
    if suite != ECDSA_P256_SHA256 or not isinstance(key.curve, ec.SECP256R1):
        raise SignatureInvalid(f"suite {suite} with this key is not one that we verify")
    if len(hashed) != _HALF:
        raise SignatureInvalid("the hash is not 32 bytes")
    try:
        key.verify(der_signature(signature), hashed, ec.ECDSA(Prehashed(hashes.SHA256())))
    except InvalidSignature as error:
        raise SignatureInvalid("signed by another key, or changed since") from error


def der_signature(raw: bytes) -> bytes:
    """WebCrypto's r and s as ASN.1, which everybody else wants."""
    if len(raw) != 2 * _HALF:
        raise SignatureInvalid(f"a P-256 signature is {2 * _HALF} bytes, not {len(raw)}")
    return encode_dss_signature(int.from_bytes(raw[:_HALF]), int.from_bytes(raw[_HALF:]))


def raw_signature(der: bytes) -> bytes:
    """ASN.1 as WebCrypto's r and s."""
    r, s = decode_dss_signature(der)
    return r.to_bytes(_HALF) + s.to_bytes(_HALF)


# -- the request for a certificate


def proof_input(challenge: bytes, account: str, spki: bytes) -> bytes:
    """What a new key signs to prove that its owner asks: under a domain of its own, so that no
    opinion can ever be taken for it."""
    return _PROOF_DOMAIN + challenge + account.encode() + b"\0" + spki


def check_proof(
    spki: bytes, challenge: bytes, account: str, signature: bytes
) -> ec.EllipticCurvePublicKey:
    """The key that asks (DER SubjectPublicKeyInfo); SignatureInvalid if it did not sign this."""
    key = read_key(spki)
    try:
        message = proof_input(challenge, account, spki)
        key.verify(der_signature(signature), message, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature as error:
        raise SignatureInvalid("the request is not signed by the key that it names") from error
    return key


def read_key(spki: bytes) -> ec.EllipticCurvePublicKey:
    """A P-256 public key; SignatureInvalid for any other."""
    try:
        key = load_der_public_key(spki)
    except ValueError as error:
        raise SignatureInvalid("not a public key") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise SignatureInvalid("the key is not on the curve P-256")
    return key


# -- the printed code


class PrintedCode(NamedTuple):
    """What the QR code on the paper says: enough to verify with the certificate alone."""

    opinion: str
    suite: int
    digest: bytes
    signature: bytes


def printed_code(verify_url: str, found: PrintedCode) -> str:
    """The code's text: an address that a telephone opens."""
    fields = {
        "o": found.opinion,
        "s": f"{found.suite}",
        "h": _base64(found.digest),
        "g": _base64(found.signature),
    }
    return f"{verify_url}?{urlencode(fields)}"


def read_printed_code(text: str) -> PrintedCode:
    """The other way; DocumentError for what is no such address (or no such query)."""
    fields = parse_qs(urlsplit(text).query)
    try:
        (opinion,), (suite,), (hashed,), (signature,) = (fields[name] for name in "oshg")
        found = PrintedCode(opinion, int(suite), _bytes(hashed), _bytes(signature))
    except (KeyError, ValueError) as error:
        raise DocumentError("not the code of a printed opinion") from error
    if not re.fullmatch("[0-9a-f]{32}", found.opinion):
        raise DocumentError("not the code of a printed opinion")
    return found


def _base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


def _refuse_hidden(document: Document) -> None:
    who, by = document.patient, document.signer
    place = (document.clinic, document.department)
    lines = (*place, who.name, who.sex, who.birth_date, who.number, by.name, by.title, by.licence)
    if any("\n" in line for line in lines):
        raise DocumentError("a name is one line", code="opinion-hidden-character")
    for text in (*lines, document.findings, document.conclusion, document.advice):
        if text != clean(text):
            raise DocumentError(
                "a text has blanks around it or foreign line ends",
                code="opinion-hidden-character",
            )
