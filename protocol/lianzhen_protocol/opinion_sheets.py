"""What opinions and signing certificates come to on both sides (docs/opinion.md)."""

from typing import ClassVar

import msgspec

from .opinion import OpinionSigned
from .sheets import Index, Sheet


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


class Opinion(Sheet, frozen=True):
    """A signed opinion; state ``signed``, ``amended`` (another one supplements it) or, where it
    did not pass verification, ``refused``."""

    SHEET: ClassVar[str] = "opinion"

    id: str
    consultation: str
    patient: str
    signed: OpinionSigned
    signed_ms: int
    arrived_ms: int
    standing: str
    """The verdict's, as of the last revocation list."""
    why: str
    revoked_ms: int | None = None
    amends: str | None = None
    amended_by: str | None = None
    node: str = ""
    """The clinic that asked; at the hub."""

    def index(self) -> Index:
        """By its id, of a patient."""
        refused = self.standing not in ("valid", "unchecked")
        state = "refused" if refused else "amended" if self.amended_by else "signed"
        return Index(self.id, self.patient, state, self.signed_ms)

    def tokens(self) -> tuple[tuple[str, str], ...]:
        """Found by its consultation as well."""
        return (("consultation", self.consultation),)
