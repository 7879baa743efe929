"""A claim from its printing to its use, each step within one transaction.

A step returns the error instead of raising it: what it counted and noted must be committed.
"""

import hmac
import secrets
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import Row, delete, insert, select, update

from lianzhen_hub.store.tables import claim, node
from lianzhen_protocol.claims import EnrolRequest, Issued, claim_key, proof
from lianzhen_protocol.identity import new_node_id
from lianzhen_protocol.sealing import NONCE_BYTES
from lianzhen_runtime.keys import KeyProvider

from .authority import spki_der
from .desk import ACTIVE, CURRENT, ISSUED, REVOKED, Desk
from .errors import (
    ClaimExpired,
    ClaimLocked,
    ClaimRefused,
    ClaimUsed,
    FleetError,
    NodeRevoked,
)
from .requests import fingerprint

MAX_FAILURES: Final = 10
_VERSION_BYTES: Final = 4
_NOBODY: Final = secrets.token_bytes(32)
"""A key for boxes that do not exist, so that their refusal takes as long as any other."""


def seal_key(keys: KeyProvider, box: str, code: bytes) -> bytes:
    """The claim's key for the table: version of the key-encryption key (4), sealed blob."""
    version = keys.current()
    nonce = secrets.token_bytes(NONCE_BYTES)
    sealed = keys.key(version).seal(nonce, claim_key(code), _place(box, version))
    return version.to_bytes(_VERSION_BYTES) + sealed


def open_key(keys: KeyProvider, box: str, blob: bytes) -> bytes:
    """The claim's key back; SealBroken if the row was changed or belongs to another box."""
    version = int.from_bytes(blob[:_VERSION_BYTES])
    return keys.key(version).open(blob[_VERSION_BYTES:], _place(box, version))


def _place(box: str, version: int) -> bytes:
    return b"lz/1 claim\0" + f"{box}|{version}".encode()


def write_claim(desk: Desk, box: str, clinic: str, sealed: bytes, expires_ms: int) -> None:
    """An open claim of ``box``, in the place of any before it."""
    desk.connection.execute(delete(claim).where(claim.c.box == box))
    row = {"box": box, "clinic": clinic, "key_sealed": sealed, "expires_ms": expires_ms}
    desk.connection.execute(insert(claim).values(row | {"failures": 0}))


def enrol(
    desk: Desk, keys: KeyProvider, request: EnrolRequest, key: ec.EllipticCurvePublicKey
) -> Issued | FleetError:
    """Judge the proof and make the node. The same key asking again gets the same answer."""
    query = select(claim).where(claim.c.box == request.box)
    row = desk.connection.execute(query).one_or_none()
    if row is not None and row.used_spki is not None:
        return _again(desk, row, fingerprint(key))
    secret = _NOBODY if row is None else open_key(keys, row.box, row.key_sealed)
    expected = proof(secret, request.nonce, request.box, spki_der(key))
    proved = hmac.compare_digest(expected.encode(), request.proof.encode())
    if row is None:
        return ClaimRefused()
    if not proved:
        _failed(desk, row, "claim-attacked", f"{MAX_FAILURES} wrong proofs; the claim is locked")
        return ClaimRefused()
    # Only who holds the code learns how the claim stands.
    if row.failures >= MAX_FAILURES:
        return ClaimLocked()
    if row.expires_ms <= desk.now_ms:
        return ClaimExpired()
    return _make_node(desk, row, key)


def _again(desk: Desk, row: Row[Any], spki: bytes) -> Issued | FleetError:
    """A used claim: its own key gets its certificate again (a lost reply); nobody else anything.

    The proof can no longer be checked, but the request is signed by the key, and what it gets
    is of use to that key alone.
    """
    owner, given = desk.node(row.node), desk.certified(spki, row.node)
    if spki != row.used_spki or owner is None or given is None:
        if row.failures < MAX_FAILURES:
            detail = f"another box tried to use the claim of box {row.box}"
            desk.notice("claim-used", row.node, detail)
        _failed(desk, row, "claim-attacked", "many attempts at a used claim")
        return ClaimUsed()
    if owner.status != ACTIVE:
        return NodeRevoked()
    if given.state not in {ISSUED, CURRENT}:
        return ClaimUsed()
    return desk.answer(owner, given.pem)


def _failed(desk: Desk, row: Row[Any], code: str, detail: str) -> None:
    if row.failures >= MAX_FAILURES:
        return
    change = update(claim).where(claim.c.box == row.box)
    desk.connection.execute(change.values(failures=row.failures + 1))
    if row.failures + 1 == MAX_FAILURES:
        desk.notice(code, row.node, f"box {row.box}: {detail}")


def _make_node(desk: Desk, row: Row[Any], key: ec.EllipticCurvePublicKey) -> Issued:
    _retire_earlier(desk, row.box)
    name = new_node_id(secrets.token_bytes(8))
    values = {"id": name, "box": row.box, "clinic": row.clinic, "status": ACTIVE}
    desk.connection.execute(insert(node).values(values | {"enrolled_ms": desk.now_ms}))
    used = {"key_sealed": None, "used_spki": fingerprint(key), "node": name, "failures": 0}
    desk.connection.execute(update(claim).where(claim.c.box == row.box).values(used))
    owner = desk.node(name)
    if owner is None:
        raise RuntimeError("a row that was just written is not there")
    return desk.issue(owner, key)


def _retire_earlier(desk: Desk, box: str) -> None:
    """A new claim of a box was used: its card was lost or replaced, so the old identity ends."""
    earlier = select(node.c.id).where(node.c.box == box, node.c.status == ACTIVE)
    for name in desk.connection.execute(earlier).scalars().all():
        end_node(desk, name, f"box {box} was claimed anew")


def end_node(desk: Desk, name: str, reason: str) -> None:
    """Revoke a node and every certificate of it, and say so."""
    desk.connection.execute(update(node).where(node.c.id == name).values(status="revoked"))
    desk.retire(REVOKED, name, only=(ISSUED, CURRENT))
    desk.notice("node-revoked", name, reason)
