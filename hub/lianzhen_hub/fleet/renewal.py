"""A certificate after its first day: renewal, first use, re-approval; each in one transaction.

As in ``claims``, a step returns the error instead of raising it, so that notices are committed.
"""

from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import Row, func, insert, select, update

from lianzhen_hub.store.tables import approval, backup_run, certificate, node
from lianzhen_protocol.claims import Issued, ReapprovalRequest, reapproval_challenge

from .authority import common_name, serial_text, spki_der
from .desk import ACTIVE, CURRENT, ISSUED, REVOKED, SUPERSEDED, Desk
from .errors import (
    CertificateUnknown,
    FleetError,
    KeyReused,
    NodeRevoked,
    NodeUnknown,
    ReapprovalRefused,
    StaleKey,
    TooManyRequests,
)
from .requests import fingerprint

WAITING, APPROVED, REFUSED = "waiting", "approved", "refused"
_MAX_WAITING: Final = 3
_ASK_AGAIN_S: Final = 3600


def use(desk: Desk, name: str, serial: str) -> bool | FleetError:
    """A certificate shows itself at work. True if this is its first use, which retires others."""
    row = desk.certificate(serial) or _adopted(desk, name, serial)
    if row is None or row.node != name:
        return CertificateUnknown()
    if (refusal := _standing(desk, row)) is not None:
        return refusal
    if row.state == CURRENT:
        return False
    desk.retire(SUPERSEDED, name, keep=serial, only=(ISSUED, CURRENT))
    change = update(certificate).where(certificate.c.serial == serial)
    desk.connection.execute(change.values(state=CURRENT))
    return True


def adopt(desk: Desk, name: str, box: str, clinic: str) -> FleetError | None:
    """Write down a node that the backup did not have; its certificate follows as it shows it."""
    if desk.node(name) is not None:
        return NodeUnknown(f"node {name} is known already")
    if not _was_restored(desk):
        return NodeUnknown("this hub was never restored: print a claim instead")
    row = {"id": name, "box": box, "clinic": clinic, "status": ACTIVE, "enrolled_ms": desk.now_ms}
    desk.connection.execute(insert(node).values(row))
    return None


def _was_restored(desk: Desk) -> bool:
    restored = select(backup_run.c.id).where(backup_run.c.kind == "restore").limit(1)
    return desk.connection.execute(restored).one_or_none() is not None


def _adopted(desk: Desk, name: str, serial: str) -> Row[Any] | None:
    """A certificate that this hub gave out after the backup that it was restored from.

    Whoever shows it was let in by TLS, so our authority issued it; what it replaced is in the
    database, and is retired by its first use.
    """
    if desk.node(name) is None or not _was_restored(desk):
        return None
    row = {
        "serial": serial,
        "node": name,
        "spki_sha256": b"",
        "not_after_ms": desk.now_ms + int(desk.terms.lifetime.total_seconds() * 1000),
        "state": ISSUED,
        "pem": "",
    }
    desk.connection.execute(insert(certificate).values(row))
    detail = f"certificate {serial} was given out after the backup that this hub came from"
    desk.notice("certificate-adopted", name, detail)
    return desk.certificate(serial)


def _standing(desk: Desk, row: Row[Any]) -> FleetError | None:
    """Why the holder of this certificate gets nothing; None if it is in good standing."""
    owner = desk.node(row.node)
    if owner is None or owner.status != ACTIVE or row.state == REVOKED:
        return NodeRevoked()
    if row.state == SUPERSEDED:
        # The rightful box has moved on, so this is a copy of its card, or the original of one.
        detail = f"certificate {row.serial} was used after its successor: is the card copied?"
        desk.notice("stale-key", row.node, detail)
        return StaleKey()
    return None


def rekey(
    desk: Desk, peer: x509.Certificate, key: ec.EllipticCurvePublicKey
) -> Issued | FleetError:
    """The next certificate, for who holds the present one."""
    serial = serial_text(peer.serial_number)
    row = desk.certificate(serial) or _adopted(desk, common_name(peer), serial)
    if row is None:
        return CertificateUnknown()
    used = use(desk, row.node, serial)
    if isinstance(used, FleetError):
        return used
    before = desk.certified(fingerprint(key))
    if before is not None and (before.node, before.state) != (row.node, ISSUED):
        return KeyReused()
    return desk.issue(_owner(desk, row.node), key)


def reapprove(
    desk: Desk, request: ReapprovalRequest, key: ec.EllipticCurvePublicKey
) -> Issued | FleetError | None:
    """An expired box asks with its old key. None while no admin has answered."""
    row = _old_certificate(desk, request)
    if row is None or not row.pem or not _signed(row.pem, request, key):
        return ReapprovalRefused()
    if (refusal := _standing(desk, row)) is not None:
        return refusal
    spki, owner = fingerprint(key), _owner(desk, row.node)
    before = desk.certified(spki)
    if before is not None and (before.node, before.state) != (row.node, ISSUED):
        return KeyReused()
    if before is not None and before.not_after_ms > desk.now_ms:
        return desk.answer(owner, before.pem)  # a renewal whose reply was lost
    query = select(approval).where(approval.c.spki_sha256 == spki)
    asked = desk.connection.execute(query).one_or_none()
    if asked is None:
        return _ask(desk, row.node, spki)
    if asked.state == REFUSED or asked.node != row.node:
        return ReapprovalRefused()
    return desk.issue(owner, key) if asked.state == APPROVED else None


def _old_certificate(desk: Desk, request: ReapprovalRequest) -> Row[Any] | None:
    try:
        old = x509.load_pem_x509_certificate(request.certificate.encode())
    except ValueError:
        return None
    row = desk.certificate(serial_text(old.serial_number))
    return row if row is not None and row.node == request.node else None


def _signed(pem: str, request: ReapprovalRequest, key: ec.EllipticCurvePublicKey) -> bool:
    """Signed by the key of the certificate on record, not of the one that was sent."""
    old = x509.load_pem_x509_certificate(pem.encode()).public_key()
    challenge = reapproval_challenge(request.nonce, request.node, spki_der(key))
    try:
        signature = bytes.fromhex(request.signature)
        if not isinstance(old, ec.EllipticCurvePublicKey):
            return False
        old.verify(signature, challenge, ec.ECDSA(hashes.SHA256()))
    except (InvalidSignature, ValueError):
        return False
    return True


def _ask(desk: Desk, name: str, spki: bytes) -> FleetError | None:
    waiting = select(func.count()).select_from(approval)
    mine = (approval.c.node == name) & (approval.c.state == WAITING)
    if desk.connection.execute(waiting.where(mine)).scalar_one() >= _MAX_WAITING:
        return TooManyRequests(_ASK_AGAIN_S)
    row = {"spki_sha256": spki, "node": name, "asked_ms": desk.now_ms, "state": WAITING}
    desk.connection.execute(insert(approval).values(row | {"reason": "certificate-expired"}))
    detail = f"its certificate ran out; new key {spki.hex()[:16]} waits for approval"
    desk.notice("reapproval-asked", name, detail)
    return None


def decide(desk: Desk, name: str, state: str, key: str = "") -> FleetError | None:
    """An admin's answer to a waiting key; ``key`` (its first hex digits) where several wait."""
    mine = (approval.c.node == name) & (approval.c.state == WAITING)
    keys = desk.connection.execute(select(approval.c.spki_sha256).where(mine)).scalars().all()
    found = [spki for spki in keys if spki.hex().startswith(key)]
    if not found:
        return NodeUnknown(f"nothing of node {name} waits for approval")
    if len(found) > 1:
        names = ", ".join(sorted(spki.hex()[:16] for spki in found))
        return NodeUnknown(
            f"{len(found)} keys of node {name} wait (is its card copied?); name one of: {names}",
            code="approval-ambiguous",
        )
    change = update(approval).where(approval.c.spki_sha256 == found[0])
    desk.connection.execute(change.values(state=state))
    return None


def _owner(desk: Desk, name: str) -> Row[Any]:
    owner = desk.node(name)
    if owner is None:
        raise RuntimeError(f"certificate without its node {name}")
    return owner
