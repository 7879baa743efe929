"""From an expert's request to a certificate, and to its end. Each step is one transaction's work.

The browser makes the key, proves that it has it, and hands over the public half and the private
half sealed under the expert's passphrase. An admin, another person, confirms identity and
licence. What the hub could do wrong here is certify a key of its own under an expert's name,
which the expert and the audit would see; what it cannot do is sign with the expert's key.
"""

import secrets
from datetime import UTC, datetime
from typing import Annotated, ClassVar, Final

import msgspec
from cryptography.hazmat.primitives.serialization import Encoding

from lianzhen_hub.fleet.authority import Authority, Revoked, serial_text
from lianzhen_hub.page import HubPage
from lianzhen_protocol.accounts import Account, Actor
from lianzhen_protocol.errors import DocumentError, SignatureInvalid
from lianzhen_protocol.opinion import TRUST_STREAM, TrustRevocations, check_proof, clean, read_key
from lianzhen_protocol.opinion_sheets import (
    Revocations,
    SigningCertificate,
    SigningRequest,
    WrappedKey,
)
from lianzhen_protocol.opinion_trust import Holder
from lianzhen_protocol.sheets import Index, Sheet, Sheets

from .errors import Decided, NoCertificate, NoSuchSigning, NotConfirmed, RequestRefused
from .standing import rejudge

MIN_ITERATIONS: Final = 600_000
"""OWASP's floor for PBKDF2-HMAC-SHA-256."""

REQUESTED, APPROVED, REFUSED = "requested", "approved", "refused"
ACTIVE, REVOKED = "active", "revoked"
_CHALLENGE_BYTES: Final = 32
_CHALLENGE_MS: Final = 10 * 60_000
_SALT_BYTES: Final = 16
_NONCE_BYTES: Final = 12
_MAX_SEALED_BYTES: Final = 1024
_ALL: Final = 1 << 30


class Challenge(Sheet, frozen=True):
    """What an account's new key is to sign; good for one request, for minutes."""

    SHEET: ClassVar[str] = "signing-challenge"

    account: str
    challenge: bytes
    made_ms: int

    def index(self) -> Index:
        """One an account."""
        return Index(self.account, at_ms=self.made_ms)


Hex = Annotated[str, msgspec.Meta(pattern=r"\A([0-9a-f]{2})*\Z", max_length=4096)]
Named = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]


class NewRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the expert's browser sends; bytes are hexadecimal."""

    title: Named
    licence: Named
    spki: Hex
    proof: Hex
    wrapped: WrappedKey


class Approval(msgspec.Struct, frozen=True, kw_only=True):
    """What an admin confirms."""

    identity_seen: bool = False
    licence_seen: bool = False


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """Why a certificate ends; ``leaked``: its key is known to others, and nothing stands."""

    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    leaked: bool = False


def challenge(page: HubPage, actor: Actor) -> bytes:
    """A fresh challenge for the account; an earlier one is void."""
    made = secrets.token_bytes(_CHALLENGE_BYTES)
    page.put(Challenge(account=actor.id, challenge=made, made_ms=page.now_ms))
    return made


def ask(page: HubPage, actor: Actor, wanted: NewRequest) -> SigningRequest:
    """Take a request in. RequestRefused for one that proves nothing or seals badly."""
    spki = bytes.fromhex(wanted.spki)
    _check_challenge(page, actor, spki, bytes.fromhex(wanted.proof))
    _check_wrapped(wanted.wrapped)
    if page.find_token(SigningRequest, "key", wanted.spki):
        raise RequestRefused("this key was used in a request before; make a new one")
    try:
        title, licence, name = clean(wanted.title), clean(wanted.licence), clean(actor.name)
    except DocumentError as error:
        raise RequestRefused(str(error)) from error
    for old in page.find(SigningRequest, owner=actor.id, state=REQUESTED):
        page.put(msgspec.structs.replace(old, state=REFUSED, reason="replaced by a later request"))
    found = SigningRequest(
        id=page.new_id(),
        account=actor.id,
        name=name,
        title=title,
        licence=licence,
        spki=spki,
        wrapped=wanted.wrapped,
        state=REQUESTED,
        asked_ms=page.now_ms,
    )
    page.put(found)
    page.audit(actor.id, "create", f"signing-request/{found.id}")
    return found


def approve(
    page: HubPage, authority: Authority, actor: Actor, request: str, seen: Approval
) -> SigningCertificate:
    """Issue the certificate: by another person than its owner, who has seen both papers."""
    asked = _open_request(page, request)
    if not (seen.identity_seen and seen.licence_seen):
        raise NotConfirmed("confirm that you have seen identity and licence, both")
    if asked.account == actor.id:
        raise NotConfirmed("nobody confirms their own identity and licence")
    holder = Holder(asked.account, asked.name, asked.title, asked.licence)
    made = authority.issue_expert(read_key(asked.spki), holder)
    found = SigningCertificate(
        serial=serial_text(made.serial_number),
        account=asked.account,
        name=asked.name,
        title=asked.title,
        licence=asked.licence,
        certificate=made.public_bytes(Encoding.DER),
        wrapped=asked.wrapped,
        state=ACTIVE,
        begins_ms=_ms(made.not_valid_before_utc),
        ends_ms=_ms(made.not_valid_after_utc),
        approved_by=actor.name,
    )
    page.put(found)
    page.put(_decided(page, asked, actor, APPROVED))
    page.audit(actor.id, "certify", f"signing-certificate/{found.serial}")
    return found


def refuse(page: HubPage, actor: Actor, request: str, reason: str) -> None:
    """Issue nothing."""
    asked = _open_request(page, request)
    page.put(msgspec.structs.replace(_decided(page, asked, actor, REFUSED), reason=reason))
    page.audit(actor.id, "refuse", f"signing-request/{asked.id}")


def revoke(
    page: HubPage, authority: Authority, by: Actor | None, serial: str, ending: Ending
) -> SigningCertificate:
    """End a certificate and issue the list that says so. ``by`` None: the hub's own rule."""
    held = page.get(SigningCertificate, serial)
    if held is None:
        raise NoSuchSigning("there is no such certificate")
    if held.state == REVOKED and (held.leaked or not ending.leaked):
        raise Decided("this certificate is revoked already")
    found = msgspec.structs.replace(
        held,
        state=REVOKED,
        revoked_ms=held.revoked_ms or page.now_ms,
        revoked_by=by.name if by else "",
        reason=ending.reason,
        leaked=ending.leaked,
    )
    page.put(found)
    page.audit(by.id if by else "hub", "revoke", f"signing-certificate/{serial}")
    issue_list(page, authority)
    rejudge(page, authority.anchors, found.certificate, page.now_ms)
    return found


def in_force(sheets: Sheets, account: str, now_ms: int) -> SigningCertificate:
    """The newest certificate that an expert signs with. NoCertificate."""
    found = [
        held
        for held in sheets.find(SigningCertificate, owner=account, state=ACTIVE, newest=True)
        if held.begins_ms <= now_ms <= held.ends_ms
    ]
    if not found:
        raise NoCertificate("you have no signing certificate in force; ask for one first")
    return found[0]


def issue_list(page: HubPage, authority: Authority) -> Revocations:
    """The list as of now, in the place of the one before."""
    held = page.get(Revocations, Revocations.KEY)
    number = max(page.now_ms // 1000, held.number + 1 if held else 0)
    revoked = [
        Revoked(int(found.serial, 16), _moment(found.revoked_ms), found.leaked)
        for found in page.find(SigningCertificate, state=REVOKED, limit=_ALL)
    ]
    made = authority.expert_revocations(revoked, number)
    found = Revocations(revocations=made, number=number, made_ms=page.now_ms)
    page.put(found)
    return found


def send_list(page: HubPage, node: str) -> None:
    """Have a box hold the list in use: before the opinions that follow, on their stream."""
    if (held := page.get(Revocations, Revocations.KEY)) is not None:
        page.send(node, TRUST_STREAM, TrustRevocations(revocations=held.revocations))


def end_orphans(page: HubPage, authority: Authority) -> int:
    """Revoke what belongs to accounts that were ended; how many."""
    found = 0
    for held in page.find(SigningCertificate, state=ACTIVE, limit=_ALL):
        account = page.get(Account, held.account)
        if account is None or not account.active:
            revoke(page, authority, None, held.serial, Ending(reason="the account was ended"))
            found += 1
    return found


def _check_challenge(page: HubPage, actor: Actor, spki: bytes, proof: bytes) -> None:
    held = page.get(Challenge, actor.id)
    if held is None or page.now_ms - held.made_ms > _CHALLENGE_MS:
        raise RequestRefused("the page was open for too long; load it again")
    try:
        check_proof(spki, held.challenge, actor.id, proof)
    except SignatureInvalid as error:
        raise RequestRefused(str(error)) from error
    page.delete(Challenge, actor.id)


def _check_wrapped(wrapped: WrappedKey) -> None:
    try:
        salt, nonce = bytes.fromhex(wrapped.salt), bytes.fromhex(wrapped.nonce)
        sealed = bytes.fromhex(wrapped.sealed)
    except ValueError as error:
        raise RequestRefused("the sealed key is not hexadecimal") from error
    if wrapped.iterations < MIN_ITERATIONS or len(salt) < _SALT_BYTES:
        raise RequestRefused("the key is sealed too weakly")
    if len(nonce) != _NONCE_BYTES or not 0 < len(sealed) <= _MAX_SEALED_BYTES:
        raise RequestRefused("this is no sealed key")


def _open_request(page: HubPage, request: str) -> SigningRequest:
    found = page.get(SigningRequest, request)
    if found is None:
        raise NoSuchSigning("there is no such request")
    if found.state != REQUESTED:
        raise Decided("this request was decided already")
    return found


def _decided(page: HubPage, asked: SigningRequest, actor: Actor, state: str) -> SigningRequest:
    return msgspec.structs.replace(
        asked, state=state, decided_by=actor.name, decided_ms=page.now_ms
    )


def _moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


def _ms(when: datetime) -> int:
    return int(when.timestamp() * 1000)
