"""Writing and signing an opinion, and the page that a printed code leads to.

Nothing is signed here: the page carries what is to be signed and the expert's own sealed key to
the browser, and takes back bytes and a signature.
"""

import hmac
from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

from lianzhen_hub.consultations.access import case_of
from lianzhen_hub.page import HubPage
from lianzhen_hub.signing import opinions
from lianzhen_hub.signing.opinions import Draft, SignedDocument
from lianzhen_hub.signing.standing import verdict_now
from lianzhen_protocol.accounts import Role
from lianzhen_protocol.errors import DocumentError, SignatureInvalid
from lianzhen_protocol.key_images import in_report
from lianzhen_protocol.opinion import (
    Document,
    PrintedCode,
    check_digest,
    digest,
    printed_code,
    read_printed_code,
)
from lianzhen_protocol.opinion_sheets import Opinion, OpinionDraft
from lianzhen_protocol.opinion_trust import certificate_key, signing_certificate
from lianzhen_protocol.people import Patient, for_care
from lianzhen_protocol.sheets import Sheets
from lianzhen_runtime.web.errors import NoSuchThing
from lianzhen_runtime.web.routes import ANYBODY, QUIET, Routes, Visit

if TYPE_CHECKING:
    from lianzhen_hub.hub import Hub

EXPERTS = frozenset({Role.EXPERT})
PATIENTS = frozenset({Role.PATIENT})


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """A signed opinion as it is read; ``code`` is what is printed on it."""

    id: str
    state: str
    standing: str
    document: Document
    amended_by: str | None
    code: str


class Verification(msgspec.Struct, frozen=True, kw_only=True):
    """What whoever holds the paper is told: whether it is true, and enough to compare it.

    ``outcome``: valid, unchecked, changed, revoked, foreign, outdated, unknown, unreadable, or
    empty where nothing was asked. All else is empty unless the paper is that of the opinion.
    """

    outcome: str
    opinion: str = ""
    signer: str = ""
    title: str = ""
    clinic: str = ""
    patient: str = ""
    number: str = ""
    signed_ms: int = 0
    revoked_ms: int | None = None
    amended_by: str | None = None


def routes(hub: "Hub") -> Routes:
    """Everything of this area."""
    found, pages = Routes(), _Pages(hub)
    found.get("/cases/{id}/opinion", roles=EXPERTS)(pages.write)
    found.post("/cases/{id}/opinion", roles=EXPERTS)(pages.save)
    found.get("/cases/{id}/opinion/sign", roles=EXPERTS)(pages.to_sign)
    found.post("/cases/{id}/opinion/sign", roles=EXPERTS)(pages.sign)
    found.get("/mine/opinions", roles=PATIENTS)(pages.all_mine)
    found.get("/mine/opinions/{id}", roles=PATIENTS)(pages.mine)
    found.get("/verify", roles=ANYBODY)(pages.verify)
    return found


class _Pages:
    def __init__(self, hub: "Hub") -> None:
        self._hub = hub

    async def write(self, visit: Visit) -> web.StreamResponse:
        actor, case = visit.actor, visit.match("id")

        def look(
            sheets: Sheets,
        ) -> tuple[OpinionDraft, list[Shown], Patient | None, list[str]]:
            held = case_of(sheets, actor, case)
            signed = [shown(each) for each in sheets.find_token(Opinion, "consultation", case)]
            known = sheets.get(Patient, held.patient_id)
            patient = for_care(known) if known else None
            keys = in_report(sheets, held.studies, actor.id)
            return opinions.draft_of(sheets, held, actor), signed, patient, keys

        draft, signed, patient, keys = await self._hub.consult(look)
        part = QUIET in visit.request.headers  # the case's page loads it as a part of itself
        template = "opinions/part.html" if part else "opinions/write.html"
        return visit.page(
            template, case=case, draft=draft, opinions=signed, patient=patient, keys=keys
        )

    async def save(self, visit: Visit) -> web.StreamResponse:
        typed, actor, case = await visit.form(Draft), visit.actor, visit.match("id")

        def work(page: HubPage) -> tuple[int, int]:
            saved = opinions.save(page, actor, case, typed)
            return saved.version, saved.saved_ms

        version, saved_ms = await visit.once(self._hub.transact, work, tuple[int, int])
        return visit.see_other(f"/cases/{case}/opinion/sign", version=version, saved_ms=saved_ms)

    async def to_sign(self, visit: Visit) -> web.StreamResponse:
        actor, case = visit.actor, visit.match("id")
        found = await self._hub.transact(lambda page: opinions.to_sign(page, actor, case))
        return visit.page("opinions/sign.html", case=case, to_sign=found)

    async def sign(self, visit: Visit) -> web.StreamResponse:
        brought, actor, case = await visit.form(SignedDocument), visit.actor, visit.match("id")
        authority, url = self._hub.authority, self._hub.settings.verify_url
        made = await self._hub.transact(
            lambda page: opinions.sign(page, authority, actor, case, brought, url)
        )
        self._hub.live.tell("opinion", roles=EXPERTS, people=frozenset({actor.id}))
        return visit.see_other(f"/cases/{case}/opinion", id=made.id)

    async def mine(self, visit: Visit) -> web.StreamResponse:
        actor, identity = visit.actor, visit.match("id")
        found = await self._hub.consult(lambda sheets: sheets.get(Opinion, identity))
        if found is None or not actor.patient or found.patient != actor.patient:
            raise NoSuchThing("there is no such opinion of yours")
        return visit.page("opinions/mine.html", opinion=shown(found))

    async def all_mine(self, visit: Visit) -> web.StreamResponse:
        """A part of the patient's page."""
        patient = visit.actor.patient
        found = await self._hub.consult(
            lambda sheets: sheets.find(Opinion, owner=patient, newest=True) if patient else []
        )
        return visit.page("opinions/list.html", opinions=[shown(each) for each in found])

    async def verify(self, visit: Visit) -> web.StreamResponse:
        text = str(visit.request.rel_url)
        if "o" not in visit.request.query:
            return visit.page("opinions/verify.html", found=Verification(outcome=""))
        try:
            code = read_printed_code(text)
        except DocumentError:
            return visit.page("opinions/verify.html", found=Verification(outcome="unreadable"))
        found = await self._hub.consult(lambda sheets: self._verified(sheets, code))
        return visit.page("opinions/verify.html", found=found)

    def _verified(self, sheets: Sheets, code: PrintedCode) -> Verification:
        opinion = sheets.get(Opinion, code.opinion)
        if opinion is None:
            return Verification(outcome="unknown")
        if not _same_paper(opinion, code) or not self._signed(opinion, code):
            return Verification(outcome="changed")
        verdict = verdict_now(
            sheets, self._hub.authority.anchors, opinion.signed, self._hub.now_ms()
        )
        said = opinion.document
        return Verification(
            outcome=verdict.standing,
            opinion=opinion.id,
            signer=said.signer.name,
            title=said.signer.title,
            clinic=said.clinic,
            patient=said.patient.name[:1] + "*" * (len(said.patient.name) - 1),
            number=said.patient.number[-4:],
            signed_ms=said.signed_ms,
            revoked_ms=verdict.revoked_ms,
            amended_by=opinion.amended_by,
        )

    def _signed(self, opinion: Opinion, code: PrintedCode) -> bool:
        """The signature on the paper itself, under the certificate of the opinion."""
        try:
            anchors = self._hub.authority.anchors
            key = certificate_key(signing_certificate(opinion.signed.certificate, anchors))
            check_digest(key, code.suite, code.digest, code.signature)
        except SignatureInvalid:
            return False
        return True


def shown(opinion: Opinion) -> Shown:
    """For pages."""
    return Shown(
        id=opinion.id,
        state=opinion.state,
        standing=opinion.standing,
        document=opinion.document,
        amended_by=opinion.amended_by,
        code=printed_code(opinion.signed.verify_url, _code(opinion)),
    )


def _code(opinion: Opinion) -> PrintedCode:
    signed = opinion.signed
    hashed = digest(signed.suite, signed.document)
    return PrintedCode(opinion.id, signed.suite, hashed, signed.signature)


def _same_paper(opinion: Opinion, code: PrintedCode) -> bool:
    held = _code(opinion)
    same = hmac.compare_digest(held.digest, code.digest)
    return same and held.suite == code.suite
