"""Writing, signing and supplementing an opinion. Each step is one transaction's work.

What is to be signed is built here from the draft and the case, and built again when the signed
bytes come back: only those very bytes are taken, under the certificate of the expert on the case.
"""

import hashlib
from typing import Annotated, Final

import msgspec
from sqlalchemy import select

from lianzhen_hub.consultations.access import case_of, expert_of
from lianzhen_hub.consultations.history import happen
from lianzhen_hub.fleet.authority import Authority
from lianzhen_hub.page import HubPage
from lianzhen_hub.store import tables
from lianzhen_protocol import consultation as events
from lianzhen_protocol.accounts import Actor
from lianzhen_protocol.consultation import Consultation, Happened, State
from lianzhen_protocol.departments import DEPARTMENTS
from lianzhen_protocol.errors import DocumentError, SignatureInvalid
from lianzhen_protocol.key_images import in_report
from lianzhen_protocol.opinion import (
    ECDSA_P256_SHA256,
    TRUST_STREAM,
    Document,
    OpinionSigned,
    PrintedPatient,
    Signer,
    clean,
    document_bytes,
    read_document,
)
from lianzhen_protocol.opinion_sheets import (
    Opinion,
    OpinionDraft,
    Revocations,
    SigningCertificate,
    WrappedKey,
    arrive,
    settle,
)
from lianzhen_protocol.opinion_trust import Standing, Verdict, fingerprint
from lianzhen_protocol.people import Patient, Sex
from lianzhen_protocol.sheets import Sheets

from . import certificates
from .errors import DraftBehind, NotReadyToSign, OpinionDiffers
from .standing import verdict_now

_SLACK_MS: Final = 10 * 60_000
"""How long an expert may look at what is to be signed before it must be loaded again."""

_AMENDABLE: Final = frozenset({State.SIGNED, State.COMPLETED, State.AMENDED})
_SHOWN_DIGITS: Final = (6, 4)
_SEXES: Final = {Sex.MALE: "男", Sex.FEMALE: "女", Sex.UNKNOWN: "未知"}
"""As they are printed: what is signed is what is read."""

_KEYS: Final = "关键图像："
_MOST_FINDINGS: Final = 8000

Typed = Annotated[str, msgspec.Meta(max_length=_MOST_FINDINGS)]


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """What the page saves; ``version`` is that of the draft it was typed on."""

    findings: Typed = ""
    conclusion: Typed = ""
    advice: Typed = ""
    version: int = 0


class ToSign(msgspec.Struct, frozen=True, kw_only=True):
    """What the browser needs to show, canonicalise and sign. Bytes are hexadecimal."""

    document: Document
    suite: int
    certificate: str
    wrapped: WrappedKey


class SignedDocument(msgspec.Struct, frozen=True, kw_only=True):
    """What the browser brings back: the canonical text that it made, and its signature."""

    document: str
    suite: int
    signature: Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{128}\Z")]


def draft_of(sheets: Sheets, case: Consultation, actor: Actor) -> OpinionDraft:
    """The draft as it was saved last, or an empty one (version 0)."""
    held = sheets.get(OpinionDraft, case.id)
    if held is not None and held.author == actor.id:
        return held
    return OpinionDraft(
        consultation=case.id,
        author=actor.id,
        opinion="",
        amends=None,
        findings="",
        conclusion="",
        advice="",
        saved_ms=0,
        version=0,
    )


def save(page: HubPage, actor: Actor, consultation: str, typed: Draft) -> OpinionDraft:
    """Keep what was typed. DraftBehind if another page saved later."""
    case = case_of(page, actor, consultation)
    held = draft_of(page, case, actor)
    if typed.version != held.version:
        raise DraftBehind("the draft was saved from another page meanwhile; load it again")
    found = msgspec.structs.replace(
        held,
        opinion=held.opinion or page.new_id(),
        amends=case.opinion.id if case.opinion and case.state in _AMENDABLE else None,
        findings=typed.findings,
        conclusion=typed.conclusion,
        advice=typed.advice,
        saved_ms=page.now_ms,
        version=held.version + 1,
    )
    page.put(found)
    page.audit(actor.id, "change", f"patient/{case.patient_id}")
    return found


def to_sign(page: HubPage, actor: Actor, consultation: str) -> ToSign:
    """The document as it is to be signed now, and the expert's own sealed key to do it with."""
    case = case_of(page, actor, consultation)
    certificate = certificates.in_force(page, actor.id, page.now_ms)
    document = _document(page, case, actor, certificate, page.now_ms)
    page.audit(actor.id, "read", f"patient/{case.patient_id}")
    return ToSign(
        document=document,
        suite=ECDSA_P256_SHA256,
        certificate=certificate.certificate.hex(),
        wrapped=certificate.wrapped,
    )


def sign(
    page: HubPage,
    authority: Authority,
    actor: Actor,
    consultation: str,
    brought: SignedDocument,
    verify_url: str,
) -> Opinion:
    """Take a signed opinion in, let it happen to the consultation, and send it to the clinic.

    Asked again with the same bytes it is the same opinion. OpinionDiffers, SignatureInvalid.
    """
    case = case_of(page, actor, consultation)
    raw = brought.document.encode()
    document = read_document(raw)
    known = page.get(Opinion, document.id)
    if known is not None and known.signed.document == raw and known.consultation == case.id:
        return known
    certificate = certificates.in_force(page, actor.id, page.now_ms)
    if abs(page.now_ms - document.signed_ms) > _SLACK_MS:
        raise OpinionDiffers("the page was open for too long; load it and sign again")
    if document_bytes(_document(page, case, actor, certificate, document.signed_ms)) != raw:
        raise OpinionDiffers("the draft or the case has changed; load the page and sign again")
    signed = OpinionSigned(
        document=raw,
        suite=brought.suite,
        signature=bytes.fromhex(brought.signature),
        certificate=certificate.certificate,
        verify_url=verify_url,
    )
    verdict = _verified(page, authority, signed)
    found = arrive(page, signed, page.now_ms, case.node)
    found = settle(page, found.id, verdict) or found
    _happen(page, case, actor, events.Opinion(id=found.id, digest=hashlib.sha256(raw).hexdigest()))
    certificates.send_list(page, case.node)
    page.send(case.node, TRUST_STREAM, signed)
    page.delete(OpinionDraft, case.id)
    page.audit(actor.id, "sign", f"opinion/{found.id}")
    return found


def masked_number(number: str | None) -> str:
    """An identity number as it is printed: enough to compare with a card, not to copy it."""
    if not number:
        return ""
    head, tail = _SHOWN_DIGITS
    hidden = len(number) - head - tail
    return f"{number[:head]}{'*' * hidden}{number[-tail:]}" if hidden > 0 else "*" * len(number)


def _verified(page: HubPage, authority: Authority, signed: OpinionSigned) -> Verdict:
    if page.get(Revocations, Revocations.KEY) is None:
        certificates.issue_list(page, authority)
    verdict = verdict_now(page, authority.anchors, signed, page.now_ms)
    if verdict.standing is not Standing.VALID:
        raise SignatureInvalid(f"the signature is not taken: {verdict.why}")
    return verdict


def _happen(page: HubPage, case: Consultation, actor: Actor, opinion: events.Opinion) -> None:
    """The same signature, as the consultation's history tells it."""
    steps: list[Happened]
    if case.state in _AMENDABLE:
        steps = [events.Amended(opinion=opinion)]
    else:
        steps = [events.OpinionWritten(opinion=opinion), events.Signed(opinion=opinion)]
        if case.state is State.ACCEPTED:
            steps.insert(0, events.Started())
    for what in steps:
        happen(page, case.id, expert_of(actor), what)


def _document(
    page: HubPage,
    case: Consultation,
    actor: Actor,
    certificate: SigningCertificate,
    signed_ms: int,
) -> Document:
    draft, patient = draft_of(page, case, actor), page.get(Patient, case.patient_id)
    if not draft.version:
        raise NotReadyToSign("write the opinion first")
    if patient is None:
        raise NotReadyToSign("the patient's registration has not arrived from the clinic yet")
    try:
        findings, conclusion = _findings(page, case, draft), clean(draft.conclusion)
        advice, clinic, name = clean(draft.advice), _clinic(page, case.node), clean(patient.name)
    except DocumentError as error:
        raise NotReadyToSign(str(error)) from error
    if not conclusion:
        raise NotReadyToSign("the conclusion is empty")
    return Document(
        id=draft.opinion,
        consultation=case.id,
        amends=case.opinion.id if case.opinion and case.state in _AMENDABLE else None,
        clinic=clinic,
        department=DEPARTMENTS.get(case.department, (case.department,))[0],
        patient=PrintedPatient(
            id=patient.id,
            name=name,
            sex=_SEXES[patient.sex],
            birth_date=patient.birth_date.isoformat() if patient.birth_date else "",
            number=masked_number(patient.id_number),
        ),
        findings=findings,
        conclusion=conclusion,
        advice=advice,
        signed_ms=signed_ms,
        signer=Signer(
            id=actor.id,
            name=certificate.name,
            title=certificate.title,
            licence=certificate.licence,
            certificate=fingerprint(certificate.certificate),
        ),
    )


def _findings(page: HubPage, case: Consultation, draft: OpinionDraft) -> str:
    """What was typed, and the key images that its author marked: they are signed with it."""
    typed, keys = clean(draft.findings), in_report(page, case.studies, draft.author)
    found = "\n".join(([typed] if typed else []) + ([_KEYS + "；".join(keys)] if keys else []))
    if len(found) > _MOST_FINDINGS:
        raise NotReadyToSign(f"the findings are longer than {_MOST_FINDINGS} characters")
    return found


def _clinic(page: HubPage, node: str) -> str:
    found = page.connection.execute(select(tables.node.c.clinic).where(tables.node.c.id == node))
    return clean(str(found.scalar_one_or_none() or ""))
