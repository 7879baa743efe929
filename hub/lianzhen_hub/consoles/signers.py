"""An expert's signing key: asked for and ended by its owner, confirmed and ended by an admin.

The island ``sign.ts`` makes and seals the key in the browser; docs/opinion.md gives every request
for whoever drives this without one.
"""

from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

from lianzhen_hub.page import HubPage
from lianzhen_hub.signing import certificates
from lianzhen_hub.signing.certificates import Approval, Ending, NewRequest
from lianzhen_hub.signing.errors import NoSuchSigning
from lianzhen_protocol.accounts import Role
from lianzhen_protocol.opinion_sheets import Revocations, SigningCertificate, SigningRequest
from lianzhen_protocol.opinion_trust import fingerprint
from lianzhen_protocol.sheets import Sheets
from lianzhen_runtime.web.routes import Routes, Visit

if TYPE_CHECKING:
    from lianzhen_hub.hub import Hub

ADMINS = frozenset({Role.ADMIN})
EXPERTS = frozenset({Role.EXPERT})
_ALL = 1 << 30


class Reason(msgspec.Struct, frozen=True, kw_only=True):
    """Why a request is refused."""

    reason: str


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A request as it is shown: without the sealed key, which is its owner's alone."""

    id: str
    name: str
    title: str
    licence: str
    state: str
    asked_ms: int
    reason: str


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """A certificate as it is shown."""

    serial: str
    name: str
    title: str
    licence: str
    state: str
    begins_ms: int
    ends_ms: int
    approved_by: str
    revoked_ms: int
    reason: str
    leaked: bool
    fingerprint: str


class Signers(msgspec.Struct, frozen=True, kw_only=True):
    """Requests and certificates, newest first; ``list_ms``: as of when the revocation list is."""

    requests: list[Asked]
    certificates: list[Held]
    list_ms: int


def routes(hub: "Hub") -> Routes:
    """Everything of this area."""
    found, pages = Routes(), _Pages(hub)
    found.entry("/signing", "signers.mine", roles=EXPERTS, order=40)
    found.entry("/signers", "signers.title", roles=ADMINS, order=40)
    found.get("/signing", roles=EXPERTS)(pages.mine)
    found.post("/signing/challenge", roles=EXPERTS)(pages.challenge)
    found.post("/signing/request", roles=EXPERTS)(pages.ask)
    found.post("/signing/{serial}/revoke", roles=EXPERTS)(pages.revoke_own)
    found.get("/signers", roles=ADMINS)(pages.all)
    found.post("/signers/requests/{id}/approve", roles=ADMINS)(pages.approve)
    found.post("/signers/requests/{id}/refuse", roles=ADMINS)(pages.refuse)
    found.post("/signers/{serial}/revoke", roles=ADMINS)(pages.revoke)
    return found


class _Pages:
    def __init__(self, hub: "Hub") -> None:
        self._hub = hub

    async def mine(self, visit: Visit) -> web.StreamResponse:
        actor = visit.actor
        found = await self._hub.consult(lambda sheets: signers(sheets, actor.id))
        return visit.page(
            "signers/mine.html",
            signers=found,
            account=actor.id,
            min_iterations=certificates.MIN_ITERATIONS,
        )

    async def challenge(self, visit: Visit) -> web.StreamResponse:
        actor = visit.actor
        made = await self._hub.transact(lambda page: certificates.challenge(page, actor))
        return visit.see_other("/signing", challenge=made.hex(), account=actor.id)

    async def ask(self, visit: Visit) -> web.StreamResponse:
        wanted, actor = await visit.form(NewRequest), visit.actor
        asked = await self._hub.transact(lambda page: certificates.ask(page, actor, wanted))
        self._hub.live.tell("signing", {"id": asked.id}, roles=ADMINS)
        return visit.see_other("/signing", id=asked.id)

    async def revoke_own(self, visit: Visit) -> web.StreamResponse:
        ending, actor, serial = await visit.form(Ending), visit.actor, visit.match("serial")

        def work(page: HubPage) -> None:
            held = page.get(SigningCertificate, serial)
            if held is None or held.account != actor.id:
                raise NoSuchSigning("there is no such certificate of yours")
            certificates.revoke(page, self._hub.authority, actor, serial, ending)

        await visit.once(self._hub.transact, work, type(None))
        return visit.see_other("/signing")

    async def all(self, visit: Visit) -> web.StreamResponse:
        found = await self._hub.consult(lambda sheets: signers(sheets, None))
        return visit.page("signers/all.html", signers=found)

    async def approve(self, visit: Visit) -> web.StreamResponse:
        seen, actor, request = await visit.form(Approval), visit.actor, visit.match("id")
        authority = self._hub.authority

        def work(page: HubPage) -> tuple[str, str]:
            made = certificates.approve(page, authority, actor, request, seen)
            return made.account, made.serial

        account, serial = await visit.once(self._hub.transact, work, tuple[str, str])
        self._hub.live.tell("signing", None, roles=EXPERTS, people=frozenset({account}))
        return visit.see_other("/signers", serial=serial)

    async def refuse(self, visit: Visit) -> web.StreamResponse:
        reason, actor, request = (await visit.form(Reason)).reason, visit.actor, visit.match("id")
        await visit.once(
            self._hub.transact,
            lambda page: certificates.refuse(page, actor, request, reason),
            type(None),
        )
        return visit.see_other("/signers")

    async def revoke(self, visit: Visit) -> web.StreamResponse:
        ending, actor, serial = await visit.form(Ending), visit.actor, visit.match("serial")
        authority = self._hub.authority
        await visit.once(
            self._hub.transact,
            lambda page: certificates.revoke(page, authority, actor, serial, ending).serial,
            str,
        )
        return visit.see_other("/signers")


def signers(sheets: Sheets, account: str | None) -> Signers:
    """Of one account, or of all."""
    requests = sheets.find(SigningRequest, owner=account, newest=True, limit=_ALL)
    held = sheets.find(SigningCertificate, owner=account, newest=True, limit=_ALL)
    listed = sheets.get(Revocations, Revocations.KEY)
    return Signers(
        requests=[_asked(each) for each in requests],
        certificates=[_held(each) for each in held],
        list_ms=listed.made_ms if listed else 0,
    )


def _asked(found: SigningRequest) -> Asked:
    return Asked(
        id=found.id,
        name=found.name,
        title=found.title,
        licence=found.licence,
        state=found.state,
        asked_ms=found.asked_ms,
        reason=found.reason,
    )


def _held(found: SigningCertificate) -> Held:
    return Held(
        serial=found.serial,
        name=found.name,
        title=found.title,
        licence=found.licence,
        state=found.state,
        begins_ms=found.begins_ms,
        ends_ms=found.ends_ms,
        approved_by=found.approved_by,
        revoked_ms=found.revoked_ms,
        reason=found.reason,
        leaked=found.leaked,
        fingerprint=fingerprint(found.certificate),
    )
