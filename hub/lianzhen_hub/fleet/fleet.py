"""The fleet as the rest of the hub sees it: who is in, who is out, and the way between.

All state is in the database, so another process (the CLI) may print claims, approve and revoke:
``sync`` takes over what it did. Only nonces and the set of active nodes are in memory.
"""

import asyncio
import secrets
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import NamedTuple, TypeVar

from cryptography import x509
from sqlalchemy import Connection, select

from lianzhen_hub.store.database import Database
from lianzhen_hub.store.tables import certificate, node
from lianzhen_protocol.claims import (
    CODE_BYTES,
    Claim,
    EnrolRequest,
    Issued,
    Nonce,
    ReapprovalRequest,
    RekeyRequest,
    box_id,
)
from lianzhen_protocol.identity import NodeId, node_id
from lianzhen_runtime.keys import KeyProvider
from lianzhen_runtime.log import Log
from lianzhen_runtime.tls import Clock

from . import claims, renewal
from .authority import NODE_LIFE, Authority, common_name, serial_text
from .desk import ACTIVE, CURRENT, ISSUED, REVOKED, SUPERSEDED, Desk, Terms, moment
from .errors import (
    CertificateMissing,
    FleetError,
    NodeRevoked,
    NodeUnknown,
)
from .limits import Nonces
from .requests import requested_key

_DAY_MS = 24 * 3600 * 1000
_log = Log("lianzhen.fleet")
_Result = TypeVar("_Result")


class Outcasts(NamedTuple):
    """Who must not come in: revoked nodes, and (serial, node, when) that are still in date."""

    nodes: frozenset[str]
    serials: tuple[tuple[int, str, datetime], ...]


class Fleet:
    """Enrolment, renewal, re-approval and revocation over the hub's database.

    ``clock`` gives seconds since 1970, ``monotonic`` the age of nonces. ``changed`` is set when
    the revocation list should be made anew at once.
    """

    def __init__(
        self,
        database: Database,
        authority: Authority,
        keys: KeyProvider,
        *,
        mqtt_port: int,
        lifetime: timedelta = NODE_LIFE,
        clock: Clock = time.time,
        monotonic: Clock = time.monotonic,
    ) -> None:
        self._database = database
        self._authority = authority
        self._keys = keys
        self._terms = Terms(authority, lifetime, mqtt_port)
        self._clock = clock
        self._nonces = Nonces(monotonic)
        self._active: frozenset[str] = frozenset()
        self.changed = asyncio.Event()

    # -- claims

    async def new_claim(self, box: str, clinic: str, hub_url: str, valid_days: int = 14) -> Claim:
        """A claim to print; it replaces an earlier one of the same box. The code is not kept."""
        code = secrets.token_bytes(CODE_BYTES)
        sealed = claims.seal_key(self._keys, box_id(box), code)

        def work(desk: Desk) -> None:
            expires_ms = desk.now_ms + valid_days * _DAY_MS
            claims.write_claim(desk, box, clinic, sealed, expires_ms)

        await self._write(work)
        _log.info("claim made", box=box, clinic=clinic)
        return Claim(hub_url, box, code, self._authority.spki_pin)

    def nonce(self) -> Nonce:
        """A nonce for one request within minutes."""
        return Nonce(nonce=self._nonces.give())

    async def enrol(self, request: EnrolRequest) -> Issued:
        """A blank box becomes a node; FleetError says why not."""
        self._nonces.spend(request.nonce)
        key = requested_key(request.csr)
        answer = await self._write(lambda desk: claims.enrol(desk, self._keys, request, key))
        if isinstance(answer, FleetError):
            # A wrong box id is a stranger's text: it is not logged.
            _log.warning("enrolment refused", code=answer.code)
        await self.sync()
        return _given(answer, "enrolled")

    # -- certificates

    async def rekey(self, peer_der: bytes | None, request: RekeyRequest) -> Issued:
        """The next certificate for the holder (by mTLS) of a present one."""
        if peer_der is None:
            raise CertificateMissing
        peer = x509.load_der_x509_certificate(peer_der)
        key = requested_key(request.csr)
        answer = await self._write(lambda desk: renewal.rekey(desk, peer, key))
        self.changed.set()
        return _given(answer, "certificate renewed")

    async def used(self, name: str, serial: str) -> bool:
        """A hello under this certificate: True at its first, which supersedes the one before.

        StaleKey (the alarm for a copied card), NodeRevoked or CertificateUnknown otherwise.
        """
        found = await self._database.write(lambda db: self.use(db, name, serial))
        self.was_used(name, serial, found)
        if isinstance(found, FleetError):
            raise found
        return found

    def use(self, connection: Connection, name: str, serial: str) -> bool | FleetError:
        """The same in the caller's transaction; ``was_used`` once that is committed."""
        desk = Desk(connection, int(self._clock() * 1000), self._terms)
        return renewal.use(desk, name, _plain(serial))

    def was_used(self, name: str, serial: str, found: bool | FleetError) -> None:
        """What ``use`` found is committed."""
        if isinstance(found, FleetError):
            _log.warning("certificate refused", node=name, code=found.code)
        elif found:
            _log.info("certificate in use", node=name, serial=_plain(serial))
            self.changed.set()

    async def holder(self, peer_der: bytes | None) -> NodeId:
        """The node that a certificate in good standing belongs to; FleetError says why not."""
        if peer_der is None:
            raise CertificateMissing
        peer = x509.load_der_x509_certificate(peer_der)
        serial = serial_text(peer.serial_number)
        query = select(certificate.c.node, certificate.c.state)
        row = await self._database.read(
            lambda link: link.execute(query.where(certificate.c.serial == serial)).one_or_none()
        )
        if row is None:  # a hub that was restored may have given it out all the same
            await self.used(common_name(peer), serial)
            return NodeId(common_name(peer))
        if row.state not in (ISSUED, CURRENT):
            await self.used(row.node, serial)  # tells the admins of a copied card, and raises
        if not self.is_active(row.node):
            raise NodeRevoked
        return NodeId(row.node)

    async def reapprove(self, request: ReapprovalRequest) -> Issued | None:
        """An expired box asks for a new certificate; None while no admin has answered."""
        self._nonces.spend(request.nonce)
        key = requested_key(request.csr)
        answer = await self._write(lambda desk: renewal.reapprove(desk, request, key))
        return None if answer is None else _given(answer, "re-approved")

    async def adopt(self, name: str, box: str, clinic: str) -> None:
        """Take in a box that was enrolled after the backup that this hub was restored from.

        Only one whose certificate is of our authority gets as far as to need it. NodeUnknown for
        a name that is none, or of a hub that was never restored.
        """
        found = await self._write(lambda desk: renewal.adopt(desk, node_id(name), box, clinic))
        if isinstance(found, FleetError):
            raise found
        await self.sync()
        _log.info("adopted", node=name, clinic=clinic)

    async def approve(self, name: str, key: str = "") -> None:
        """An admin's yes; ``key`` names one by its first hex digits where several wait."""
        _checked(await self._write(lambda desk: renewal.decide(desk, name, "approved", key)))

    async def refuse(self, name: str, key: str = "") -> None:
        """An admin's no."""
        _checked(await self._write(lambda desk: renewal.decide(desk, name, "refused", key)))

    # -- the end of a node

    async def revoke(self, name: str, reason: str) -> None:
        """End a node for good. ``broker.gate`` carries it to live sessions."""

        def work(desk: Desk) -> FleetError | None:
            if desk.node(name) is None:
                return NodeUnknown(f"there is no node {name[:40]}")
            claims.end_node(desk, name, reason)
            return None

        _checked(await self._write(work))
        await self.sync()
        self.changed.set()
        _log.warning("node revoked", node=name)

    def is_active(self, name: str) -> bool:
        """The second gate, at ingest: whatever the broker let through."""
        return name in self._active

    def active(self) -> frozenset[str]:
        """All of those."""
        return self._active

    async def revoked_serials(self) -> list[tuple[int, datetime]]:
        """What the revocation list names: superseded and revoked, until they expire."""
        return [(serial, when) for serial, _, when in (await self.sync()).serials]

    async def sync(self) -> Outcasts:
        """Take over the state of the database, also what another process did."""
        now_ms = int(self._clock() * 1000)
        active, outcasts = await self._database.read(lambda link: _standing(link, now_ms))
        self._active = active
        return outcasts

    # -- inside

    async def _write(self, work: Callable[[Desk], _Result]) -> _Result:
        now_ms = int(self._clock() * 1000)
        return await self._database.write(lambda link: work(Desk(link, now_ms, self._terms)))


def _standing(connection: Connection, now_ms: int) -> tuple[frozenset[str], Outcasts]:
    states = connection.execute(select(node.c.id, node.c.status)).all()
    active = frozenset(row.id for row in states if row.status == ACTIVE)
    # A day longer than they live: a broker's clock may be behind.
    ended = certificate.c.state.in_((SUPERSEDED, REVOKED)) & (
        certificate.c.not_after_ms > now_ms - _DAY_MS
    )
    columns = (certificate.c.serial, certificate.c.node, certificate.c.revoked_ms)
    rows = connection.execute(select(*columns).where(ended).order_by(certificate.c.serial)).all()
    serials = tuple((int(row.serial, 16), row.node, moment(row.revoked_ms)) for row in rows)
    return active, Outcasts(frozenset(row.id for row in states) - active, serials)


def _plain(serial: str) -> str:
    return serial.lower().lstrip("0")


def _checked(outcome: FleetError | None) -> None:
    if outcome is not None:
        raise outcome


def _given(answer: Issued | FleetError, event: str) -> Issued:
    if isinstance(answer, FleetError):
        raise answer
    _log.info(event, node=answer.node, clinic=answer.clinic)
    return answer
