"""Whose signature under an opinion counts: certificate, revocation list, verdict (docs/opinion.md).

The same function judges at the hub and, offline, at the box. A signing certificate is issued by
the hub's CA for this one purpose: its key usage is content commitment alone and its one extended
key usage is ours, so it opens no TLS connection and signs nothing of the hub's; and no
certificate of a box or of the hub signs an opinion.
"""

import enum
from datetime import UTC, datetime
from typing import Final, NamedTuple

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID, ObjectIdentifier

from . import opinion
from .errors import DocumentError, SignatureInvalid
from .opinion import Document, OpinionSigned

OPINION_SIGNING: Final = ObjectIdentifier("2.25.308821176241607381643756374208887859918")
"""The extended key usage (an OID made from a UUID, ITU-T X.667, needs no registrar)."""

CONFIRMED_POLICY: Final = ObjectIdentifier("2.25.255276311830142861229083405104387216153")
"""The certificate policy: an admin has confirmed the expert's identity and licence."""

LIST_SCOPE: Final = "urn:lianzhen:opinion-signers"
"""The issuing distribution point of the list of signing certificates: the broker's list of boxes,
by the same CA, can never be taken for it."""


class Standing(enum.StrEnum):
    """What a verification came to. Only the first two are printed."""

    VALID = "valid"
    UNCHECKED = "unchecked"
    """Sound, but no revocation list was there to ask."""
    CHANGED = "changed"
    """Not the bytes that were signed, or not by this certificate's key."""
    FOREIGN = "foreign"
    """The certificate is not one for signing opinions by this hub's CA."""
    OUTDATED = "outdated"
    """The certificate was not valid at the time of signing."""
    REVOKED = "revoked"
    """The certificate was revoked before the signature, or its key is known to others."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """A verification's outcome. Times in ms UTC."""

    standing: Standing
    why: str
    """One sentence for a log or an API; pages say it in their own words."""
    list_ms: int | None = None
    """As of when the revocation list is that was asked; None: there was none."""
    list_overdue: bool = False
    """The list should have been replaced by now."""
    revoked_ms: int | None = None
    """When the certificate was revoked; with VALID: after the signature."""

    @property
    def stands(self) -> bool:
        """Whether the opinion may be acted upon and printed."""
        return self.standing in (Standing.VALID, Standing.UNCHECKED)


class Holder(NamedTuple):
    """Whom a signing certificate names."""

    account: str
    name: str
    title: str
    licence: str


class RevocationListError(DocumentError):
    """Not a list of revoked signing certificates by this CA."""


_NAMES: Final = (NameOID.USER_ID, NameOID.COMMON_NAME, NameOID.TITLE, NameOID.SERIAL_NUMBER)


def subject(holder: Holder) -> x509.Name:
    """The certificate's subject: account as UID, licence as serialNumber."""
    return x509.Name(
        [x509.NameAttribute(oid, value) for oid, value in zip(_NAMES, holder, strict=True) if value]
    )


def holder_of(certificate: x509.Certificate) -> Holder:
    """The other way; a name that is missing is empty."""
    found = [certificate.subject.get_attributes_for_oid(oid) for oid in _NAMES]
    return Holder(*(str(names[0].value) if len(names) == 1 else "" for names in found))


def fingerprint(certificate: bytes) -> str:
    """SHA-256 of the DER, hexadecimal: how a document names its certificate."""
    hashed = hashes.Hash(hashes.SHA256())
    hashed.update(certificate)
    return hashed.finalize().hex()


class RevocationList:
    """A list that one of the anchors signed, for signing certificates."""

    def __init__(self, der: bytes, anchors: list[x509.Certificate]) -> None:
        try:
            self._list = x509.load_der_x509_crl(der)
            number = self._list.extensions.get_extension_for_class(x509.CRLNumber)
            scope = self._list.extensions.get_extension_for_class(x509.IssuingDistributionPoint)
        except (ValueError, x509.ExtensionNotFound) as error:
            raise RevocationListError(f"not a revocation list of signers: {error}") from error
        if scope.value.full_name != [x509.UniformResourceIdentifier(LIST_SCOPE)]:
            raise RevocationListError("a revocation list of something else")
        if not any(_signed_by(self._list, anchor) for anchor in anchors):
            raise RevocationListError("a revocation list that our CA did not sign")
        self.number: Final = number.value.crl_number
        """A later list has a higher one."""

    @property
    def made_ms(self) -> int:
        """As of when it is."""
        return _ms(self._list.last_update_utc)

    @property
    def next_ms(self) -> int:
        """When it should have been replaced."""
        after = self._list.next_update_utc
        return _ms(after) if after else self.made_ms

    def revoked(self, serial: int) -> tuple[int, bool] | None:
        """(when in ms, whether the key is known to others) of a revoked certificate."""
        entry = self._list.get_revoked_certificate_by_serial_number(serial)
        if entry is None:
            return None
        try:
            reason = entry.extensions.get_extension_for_class(x509.CRLReason).value.reason
        except x509.ExtensionNotFound:
            reason = x509.ReasonFlags.unspecified
        leaked = reason == x509.ReasonFlags.key_compromise
        return _ms(entry.revocation_date_utc), leaked


def judge(
    signed: OpinionSigned,
    anchors: list[x509.Certificate],
    revocations: RevocationList | None,
    now_ms: int,
) -> Verdict:
    """Verify chain, purpose, signature, signer, validity and revocation; raises nothing."""
    try:
        certificate = signing_certificate(signed.certificate, anchors)
    except SignatureInvalid as error:
        return Verdict(standing=Standing.FOREIGN, why=str(error))
    try:
        document = _read(signed, certificate)
    except (SignatureInvalid, DocumentError) as error:
        return Verdict(standing=Standing.CHANGED, why=str(error))
    return _judge_time(document.signed_ms, certificate, revocations, now_ms)


def signing_certificate(der: bytes, anchors: list[x509.Certificate]) -> x509.Certificate:
    """A certificate for signing opinions, by one of the anchors; SignatureInvalid otherwise.

    Its time is not looked at.
    """
    try:
        certificate = x509.load_der_x509_certificate(der)
        if not any(_issued_by(certificate, anchor) for anchor in anchors):
            raise SignatureInvalid("the certificate was not issued by the hub's CA")
        _check_purpose(certificate)
    except (ValueError, x509.ExtensionNotFound) as error:
        raise SignatureInvalid("not a certificate for signing opinions") from error
    return certificate


def certificate_key(certificate: x509.Certificate) -> ec.EllipticCurvePublicKey:
    """The signer's key; SignatureInvalid if it is of another kind."""
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise SignatureInvalid("the certificate has a key of another kind")
    return key


def _check_purpose(certificate: x509.Certificate) -> None:
    found = certificate.extensions
    basic = found.get_extension_for_class(x509.BasicConstraints).value
    usage = found.get_extension_for_class(x509.KeyUsage).value
    purposes = found.get_extension_for_class(x509.ExtendedKeyUsage).value
    policies = found.get_extension_for_class(x509.CertificatePolicies).value
    if basic.ca or not usage.content_commitment or list(purposes) != [OPINION_SIGNING]:
        raise SignatureInvalid("the certificate is not one for signing opinions")
    if [policy.policy_identifier for policy in policies] != [CONFIRMED_POLICY]:
        raise SignatureInvalid("nobody confirmed the signer's identity and licence")


def _read(signed: OpinionSigned, certificate: x509.Certificate) -> Document:
    key = certificate_key(certificate)
    opinion.check_signature(key, signed.suite, signed.document, signed.signature)
    document = opinion.read_document(signed.document)
    signer = document.signer
    named = Holder(signer.id, signer.name, signer.title, signer.licence)
    if signer.certificate != fingerprint(signed.certificate) or named != holder_of(certificate):
        raise SignatureInvalid("the opinion names another signer than its certificate")
    return document


def _judge_time(
    signed_ms: int,
    certificate: x509.Certificate,
    revocations: RevocationList | None,
    now_ms: int,
) -> Verdict:
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not _ms(begin) <= signed_ms <= _ms(end):
        return Verdict(standing=Standing.OUTDATED, why="the certificate was not valid then")
    if revocations is None:
        return Verdict(standing=Standing.UNCHECKED, why="no revocation list is here yet")
    overdue = now_ms > revocations.next_ms
    standing, why, when = Standing.VALID, "verified", None
    if entry := revocations.revoked(certificate.serial_number):
        when, leaked = entry
        if leaked or when <= signed_ms:
            standing = Standing.REVOKED
            why = "the signing key is known to others" if leaked else "revoked before it was signed"
        else:
            why = "verified; the certificate was revoked after it was signed"
    return Verdict(
        standing=standing,
        why=why,
        list_ms=revocations.made_ms,
        list_overdue=overdue,
        revoked_ms=when,
    )


def _issued_by(certificate: x509.Certificate, anchor: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(anchor)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def _signed_by(found: x509.CertificateRevocationList, anchor: x509.Certificate) -> bool:
    key = anchor.public_key()
    if found.issuer != anchor.subject or not isinstance(key, ec.EllipticCurvePublicKey):
        return False
    return found.is_signature_valid(key)


def _ms(when: datetime) -> int:
    return int(when.astimezone(UTC).timestamp() * 1000)
