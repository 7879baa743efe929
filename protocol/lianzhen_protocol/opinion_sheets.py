"""What opinions and signing certificates come to on both sides (docs/opinion.md)."""

from typing import ClassVar, Final

import msgspec

from .errors import RecordError
from .opinion import Document, OpinionSigned, read_document
from .opinion_trust import Standing, Verdict, fingerprint
from .sheets import Index, Sheet, Sheets

_STANDS: Final = frozenset({Standing.VALID, Standing.UNCHECKED})


class WrappedKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An expert's private key as the hub keeps it: sealed in the browser under a passphrase that
    never leaves it (PBKDF2-HMAC-SHA-256, then AES-256-GCM over PKCS #8). Hexadecimal."""

    iterations: int
    salt: str
    nonce: str
    sealed: str


class SigningRequest(Sheet, frozen=True):
    """An expert asks for a certificate; state ``requested``, ``approved`` or ``refused``."""

    SHEET: ClassVar[str] = "signing-request"

    id: str
    account: str
    name: str
    title: str
    licence: str
    spki: bytes
    wrapped: WrappedKey
    state: str
    asked_ms: int
    decided_by: str = ""
    decided_ms: int = 0
    reason: str = ""

    def index(self) -> Index:
        """By its id, of an account."""
        return Index(self.id, self.account, self.state, self.asked_ms)

    def tokens(self) -> tuple[tuple[str, str], ...]:
        """Found by its key as well: one key is never certified twice."""
        return (("key", self.spki.hex()),)


class SigningCertificate(Sheet, frozen=True):
    """A certificate and the wrapped key to it; state ``active`` or ``revoked``."""

    SHEET: ClassVar[str] = "signing-certificate"

    serial: str
    """Hexadecimal."""
    account: str
    name: str
    title: str
    licence: str
    certificate: bytes
    wrapped: WrappedKey
    state: str
    begins_ms: int
    ends_ms: int
    approved_by: str
    revoked_ms: int = 0
    revoked_by: str = ""
    reason: str = ""
    leaked: bool = False
    """The key is known to others: nothing it ever signed stands."""

    def index(self) -> Index:
        """By its serial, of an account."""
        return Index(self.serial, self.account, self.state, self.begins_ms)


class Revocations(Sheet, frozen=True):
    """The one revocation list in use, DER."""

    SHEET: ClassVar[str] = "revocations"
    KEY: ClassVar[str] = "opinion-signers"

    revocations: bytes
    number: int
    made_ms: int

    def index(self) -> Index:
        """There is one."""
        return Index(self.KEY, "", "", self.made_ms)


class OpinionDraft(Sheet, frozen=True):
    """What an expert has typed so far; one for a consultation."""

    SHEET: ClassVar[str] = "opinion-draft"

    consultation: str
    author: str
    opinion: str
    """Id of the opinion that it will be."""
    amends: str | None
    findings: str
    conclusion: str
    advice: str
    saved_ms: int
    version: int
    """Counts savings: a page that is behind does not overwrite."""

    def index(self) -> Index:
        """By the consultation."""
        return Index(self.consultation, self.author, "draft", self.saved_ms)


ARRIVED: Final = "arrived"
"""Standing of an opinion that this machine has not judged yet: it is neither shown nor printed."""


class Opinion(Sheet, frozen=True):
    """A signed opinion; state ``arrived``, ``signed``, ``amended`` (another one supplements it)
    or, where it did not pass verification, ``refused``."""

    SHEET: ClassVar[str] = "opinion"

    id: str
    consultation: str
    patient: str
    signed: OpinionSigned
    signed_ms: int
    arrived_ms: int
    standing: str = ARRIVED
    """``Standing``, as of the last revocation list."""
    why: str = ""
    revoked_ms: int | None = None
    amends: str | None = None
    amended_by: str | None = None
    node: str = ""
    """The clinic that asked; at the hub."""

    def index(self) -> Index:
        """By its id, of a patient."""
        return Index(self.id, self.patient, self.state, self.signed_ms)

    def tokens(self) -> tuple[tuple[str, str], ...]:
        """Found by its consultation, and by the certificate that it was signed under."""
        certificate = fingerprint(self.signed.certificate)
        return (("consultation", self.consultation), ("certificate", certificate))

    @property
    def state(self) -> str:
        """In one word."""
        if self.standing in _STANDS:
            return "amended" if self.amended_by else "signed"
        return ARRIVED if self.standing == ARRIVED else "refused"

    @property
    def document(self) -> Document:
        """What it says."""
        return read_document(self.signed.document)


def arrive(sheets: Sheets, signed: OpinionSigned, now_ms: int, node: str = "") -> Opinion:
    """Take a signed opinion in, unjudged; the one that is there already, if it is the same bytes.

    DocumentError for what is no opinion, RecordError for a second one with the same id.
    """
    document = read_document(signed.document)
    if (known := sheets.get(Opinion, document.id)) is not None:
        if known.signed.document != signed.document:
            raise RecordError("there is another opinion with this id", code="opinion-differs")
        return known
    found = Opinion(
        id=document.id,
        consultation=document.consultation,
        patient=document.patient.id,
        signed=signed,
        signed_ms=document.signed_ms,
        arrived_ms=now_ms,
        amends=document.amends,
        node=node,
    )
    sheets.put(found)
    return found


def settle(sheets: Sheets, identity: str, verdict: Verdict) -> Opinion | None:
    """Write a verdict down; one that stands also marks the opinion that it supplements."""
    found = sheets.get(Opinion, identity)
    if found is None:
        return None
    found = msgspec.structs.replace(
        found, standing=verdict.standing, why=verdict.why, revoked_ms=verdict.revoked_ms
    )
    sheets.put(found)
    first = sheets.get(Opinion, found.amends) if found.amends and verdict.stands else None
    if first is not None and _supplements(found, first):
        sheets.put(msgspec.structs.replace(first, amended_by=found.id))
    return found


def _supplements(later: Opinion, first: Opinion) -> bool:
    """Of the same consultation, and the last one to do so."""
    known = first.amended_by or ""
    return later.consultation == first.consultation and known < later.id
