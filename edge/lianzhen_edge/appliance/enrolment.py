"""From a claim to an identity, and from one certificate to the next (docs/protocol.md, 10).

Local care never waits for any of this: a box whose certificate ran out goes on recording.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from hashlib import sha256
from pathlib import Path
from typing import Final, TypeVar

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from lianzhen_protocol.claims import (
    Claim,
    EnrolRequest,
    Issued,
    Nonce,
    ReapprovalRequest,
    RekeyRequest,
    claim_key,
    proof,
    reapproval_challenge,
)
from lianzhen_runtime.errors import SecretError
from lianzhen_runtime.log import Log
from lianzhen_runtime.retry import pause

from . import identity as disk
from .clock import TrustedClock
from .hubcalls import API, EnrolmentRefused, Hub, HubBusy, HubUnreachable, PinMismatch, call
from .identity import Identity

__all__ = [
    "EnrolmentRefused",
    "PinMismatch",
    "enrol",
    "follow",
    "keep_certificate",
    "knows",
    "reapprove",
    "rekey",
]

CHECK_SECONDS: Final = 3600.0
_MAX_WAIT_S: Final = 3600.0
_POLL_SECONDS: Final = 60.0
_Result = TypeVar("_Result")
_log = Log("lianzhen.enrolment")


async def enrol(claim: Claim, folder: Path, clock: TrustedClock) -> Identity:
    """Become a node. Goes on for ever while the line is bad; EnrolmentRefused is final.

    ``folder`` is private to the identity. A repeated call, also after a power cut, asks with the
    same key and so gets the same certificate.
    """
    claim = claim._replace(hub=claim.hub.rstrip("/"))
    ca = await _until_answered(lambda: _pinned_ca(claim))
    hub = Hub(claim.hub, ca, clock)

    async def ask() -> Issued:
        nonce = await _nonce(hub)
        key = disk.next_key(folder)
        proved = proof(claim_key(claim.code), nonce, claim.box, disk.spki_der(key))
        csr = disk.request_pem(key)
        request = EnrolRequest(box=claim.box, nonce=nonce, csr=csr, proof=proved)
        return (await hub.post("/simpleenroll", request)).read(Issued)

    issued = await _until_answered(ask)
    return _install(folder, claim.hub, issued, clock)


async def rekey(identity: Identity, folder: Path, clock: TrustedClock) -> Identity:
    """Ask once, over mTLS, for a certificate over a new key; OSError if the line is bad."""
    hub = Hub(identity.hub, identity.ca, clock, (identity.certificate_file, identity.key_file))
    request = RekeyRequest(csr=disk.request_pem(disk.next_key(folder)))
    try:
        issued = (await hub.post("/simplereenroll", request)).read(Issued)
    except EnrolmentRefused as refusal:
        _drop_reused_key(folder, refusal)
        raise
    return _install(folder, identity.hub, issued, clock)


async def reapprove(identity: Identity, folder: Path, clock: TrustedClock) -> Identity:
    """Ask until an admin has approved an expired box, or EnrolmentRefused says no."""
    hub = Hub(identity.hub, identity.ca, clock)

    async def ask() -> Issued:
        nonce = await _nonce(hub)
        request = _reapproval(identity, disk.next_key(folder), nonce)
        reply = await hub.post("/reapprove", request)
        if reply.status == 202:
            _log.transition("certificate", "waits for an admin", bad=True, node=identity.node)
            raise HubBusy("an admin has not yet approved", reply.retry_after or _POLL_SECONDS)
        return reply.read(Issued)

    try:
        issued = await _until_answered(ask)
    except EnrolmentRefused as refusal:
        _drop_reused_key(folder, refusal)
        raise
    return _install(folder, identity.hub, issued, clock)


async def set_clock(identity: Identity, clock: TrustedClock) -> None:
    """Ask the hub for the time until it answers: once a start, before anything hangs on it.

    A box that was off while the hub renewed its certificates would else find them not yet valid.
    """
    try:
        await _until_answered(Hub(identity.hub, identity.ca, clock).learn_time)
    except EnrolmentRefused as refusal:
        _log.warning("the hub does not tell the time", code=refusal.code)


async def keep_certificate(
    folder: Path, clock: TrustedClock, *, check_s: float = CHECK_SECONDS
) -> AsyncGenerator[Identity, None]:
    """Renew when due, ask for re-approval when expired, for ever; gives each new identity.

    No refusal ends it, since care goes on and an admin may think again; each is logged once.
    """
    attempt, unit = 0, random.random()  # noqa: S311 - jitter
    while True:
        identity = disk.load(folder)  # anew: it may have followed a claim meanwhile
        if identity is None:
            raise SecretError("the box has no identity to renew; claim it first")
        wait = check_s
        try:
            found = await _renewed(identity, folder, clock, unit)
        except (OSError, TimeoutError, EnrolmentRefused) as fault:
            code = getattr(fault, "code", type(fault).__name__)
            _log.transition("certificate", f"not renewed: {code}", bad=True, node=identity.node)
            again = max(pause(attempt), getattr(fault, "retry_after", 0.0))
            wait, attempt = min(wait, again), attempt + 1
        else:
            attempt = 0
            if found is not identity:
                unit = random.random()  # noqa: S311 - jitter
                _log.info("certificate renewed", node=found.node, serial=found.serial)
                yield found
        await asyncio.sleep(wait)


async def _renewed(identity: Identity, folder: Path, clock: TrustedClock, unit: float) -> Identity:
    if not identity.due(clock.now(), unit):
        if not await _authority_moves(identity, clock):
            return identity
        return await rekey(identity, folder, clock)
    hub = Hub(identity.hub, identity.ca, clock)
    if identity.expired(clock.now()):
        # No date that nobody vouches for makes us give a good certificate up.
        await hub.learn_time()
    if identity.expired(clock.now()):
        return await reapprove(identity, folder, clock)
    if not identity.due(clock.now(), unit):
        return identity
    try:
        return await rekey(identity, folder, clock)
    except OSError:
        # A server that does not take our certificate hangs up without a word that we could
        # trust: perhaps it has expired, and only our clock does not know.
        await hub.learn_time()
        if not identity.expired(clock.now()):
            raise
    return await reapprove(identity, folder, clock)


async def follow(claim: Claim, identity: Identity, folder: Path, clock: TrustedClock) -> Identity:
    """A hub that changed its authority while this box was away is believed by a new claim's pin.

    Node and journal stay: the box asks with its old key, and an admin approves it.
    """
    claim = claim._replace(hub=claim.hub.rstrip("/"))
    ca = await _until_answered(lambda: _pinned_ca(claim))
    there = msgspec.structs.replace(identity, hub=claim.hub, ca=ca)
    return await reapprove(there, folder, clock)


def knows(identity: Identity, pin: bytes) -> bool:
    """Whether a claim's pin is of an authority that this box trusts already."""
    return pin in {_pin(anchor) for anchor in x509.load_pem_x509_certificates(identity.ca.encode())}


async def _authority_moves(identity: Identity, clock: TrustedClock) -> bool:
    """Whether the hub has another root than those we know, or has retired one of them."""
    try:
        reply = await Hub(identity.hub, identity.ca, clock).get("/cacerts")
        theirs = {_pin(root) for root in x509.load_pem_x509_certificates(reply.body)}
    except (OSError, ValueError, EnrolmentRefused):
        return False  # a line that is down; what does not trust its hub shows that by itself
    ours = {_pin(root) for root in x509.load_pem_x509_certificates(identity.ca.encode())}
    return theirs != ours


def _pin(certificate: x509.Certificate) -> bytes:
    return sha256(disk.spki_der(certificate)).digest()


async def _pinned_ca(claim: Claim) -> str:
    """The hub's CA, fetched from anybody, believed for its key alone."""
    reply = await call(f"{claim.hub}{API}/cacerts", context=False)
    try:
        anchors = x509.load_pem_x509_certificates(reply.body)
    except ValueError as error:
        raise HubUnreachable("something else than the hub answers at its address") from error
    for anchor in anchors:
        if _pin(anchor) == claim.pin:
            return anchor.public_bytes(serialization.Encoding.PEM).decode()
    raise PinMismatch


async def _nonce(hub: Hub) -> str:
    return (await hub.post("/nonce")).read(Nonce).nonce


def _reapproval(
    identity: Identity, key: ec.EllipticCurvePrivateKey, nonce: str
) -> ReapprovalRequest:
    challenge = reapproval_challenge(nonce, identity.node, disk.spki_der(key))
    signature = identity.private_key().sign(challenge, ec.ECDSA(hashes.SHA256()))
    return ReapprovalRequest(
        node=identity.node,
        nonce=nonce,
        csr=disk.request_pem(key),
        certificate=identity.certificate_pem(),
        signature=signature.hex(),
    )


def _install(folder: Path, hub: str, issued: Issued, clock: TrustedClock) -> Identity:
    clock.learn(issued.now_ms)
    clock.save()
    try:
        return disk.install(folder, hub, issued)
    except ValueError as error:
        raise EnrolmentRefused(
            f"the hub's answer cannot be used: {error}", code="issued-unfit"
        ) from error


def _drop_reused_key(folder: Path, refusal: EnrolmentRefused) -> None:
    if refusal.code == "key-reused":
        disk.forget_next_key(folder)


async def _until_answered(ask: Callable[[], Awaitable[_Result]]) -> _Result:
    attempt = 0
    while True:
        try:
            answer = await ask()
        except EnrolmentRefused as refusal:
            if refusal.code != "nonce-unknown":  # the hub was restarted between two requests
                raise
            wait = pause(attempt)
        except (OSError, TimeoutError) as fault:
            code = getattr(fault, "code", "unreachable")
            _log.transition("hub", f"no answer: {code}", bad=True, attempt=attempt)
            wait = min(max(pause(attempt), getattr(fault, "retry_after", 0.0)), _MAX_WAIT_S)
        else:
            _log.transition("hub", "answers")
            return answer
        attempt += 1
        await asyncio.sleep(wait)
