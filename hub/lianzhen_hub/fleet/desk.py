"""One transaction over the fleet's tables: what enrolment, renewal and revocation share."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import Connection, Row, insert, select, update

from lianzhen_hub.store.notices import tell
from lianzhen_hub.store.tables import certificate, node
from lianzhen_protocol.claims import Issued

from .authority import Authority, serial_text
from .requests import fingerprint

ISSUED, CURRENT, SUPERSEDED, REVOKED = "issued", "current", "superseded", "revoked"
"""States of a certificate: given out, in use, replaced by one in use, ended by an admin."""

ACTIVE: Final = "active"


@dataclass(frozen=True)
class Terms:
    """How this hub issues. ``mqtt_port`` is told to the box; the host is that of its claim."""

    authority: Authority
    lifetime: timedelta
    mqtt_port: int


@dataclass(frozen=True)
class Desk:
    """A transaction in hand, the time it happens at, and the terms."""

    connection: Connection
    now_ms: int
    terms: Terms

    def node(self, name: str) -> Row[Any] | None:
        """The node's row."""
        return self.connection.execute(select(node).where(node.c.id == name)).one_or_none()

    def certificate(self, serial: str) -> Row[Any] | None:
        """The certificate's row."""
        # Locked: a shard may see its first use while the hub issues the next one.
        query = select(certificate).where(certificate.c.serial == serial).with_for_update()
        return self.connection.execute(query).one_or_none()

    def certified(self, spki: bytes, name: str | None = None) -> Row[Any] | None:
        """The newest certificate over a key, of one node or of any."""
        query = select(certificate).where(certificate.c.spki_sha256 == spki)
        if name is not None:
            query = query.where(certificate.c.node == name)
        latest = query.order_by(certificate.c.not_after_ms.desc()).limit(1)
        return self.connection.execute(latest).one_or_none()

    def notice(self, code: str, name: str | None, detail: str) -> None:
        """Tell an admin; the same words about the same node at most once a day."""
        tell(self.connection, self.now_ms, code, name, detail)

    def retire(self, state: str, name: str, *, keep: str = "", only: tuple[str, ...]) -> None:
        """Put the node's certificates that are in one of ``only`` into ``state``, but ``keep``."""
        which = (certificate.c.node == name) & certificate.c.state.in_(only)
        change = update(certificate).where(which, certificate.c.serial != keep)
        self.connection.execute(change.values(state=state, revoked_ms=self.now_ms))

    def issue(self, owner: Row[Any], key: ec.EllipticCurvePublicKey) -> Issued:
        """The certificate over ``key``: the one given out before while it is good, or a new one.

        Of a node at most one certificate is given out and not yet used.
        """
        spki = fingerprint(key)
        before = self.certified(spki, owner.id)
        if before is not None and before.state == ISSUED and before.not_after_ms > self.now_ms:
            return self.answer(owner, before.pem)
        self.retire(SUPERSEDED, owner.id, only=(ISSUED,))
        made = self.terms.authority.issue_node(key, owner.id, self.terms.lifetime)
        pem = made.public_bytes(serialization.Encoding.PEM).decode()
        self.connection.execute(
            insert(certificate).values(
                serial=serial_text(made.serial_number),
                node=owner.id,
                spki_sha256=spki,
                not_after_ms=int(made.not_valid_after_utc.timestamp() * 1000),
                state=ISSUED,
                pem=pem,
            )
        )
        return self.answer(owner, pem)

    def answer(self, owner: Row[Any], pem: str) -> Issued:
        """What the box is told."""
        return Issued(
            node=owner.id,
            clinic=owner.clinic,
            certificate=pem,
            ca=self.terms.authority.ca_pem,
            mqtt_port=self.terms.mqtt_port,
            now_ms=self.now_ms,
        )


def moment(ms: int) -> datetime:
    """Milliseconds since 1970 as a time."""
    return datetime.fromtimestamp(ms / 1000, UTC)
