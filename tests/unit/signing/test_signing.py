"""From a request for a certificate to a signed opinion on its way down, on a real database."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.exceptions import InvalidTag
from cryptography.x509.oid import ExtendedKeyUsageOID
from sqlalchemy import insert

import expert as browser
from lianzhen_hub.consultations.access import NoSuchCase, case_of
from lianzhen_hub.fleet.authority import Authority
from lianzhen_hub.page import HubPage
from lianzhen_hub.signing import certificates, opinions
from lianzhen_hub.signing.certificates import Approval, Ending, NewRequest
from lianzhen_hub.signing.errors import (
    Decided,
    DraftBehind,
    NoCertificate,
    NotConfirmed,
    NotReadyToSign,
    OpinionDiffers,
    RequestRefused,
)
from lianzhen_hub.signing.opinions import Draft, SignedDocument, masked_number
from lianzhen_hub.signing.standing import verdict_now
from lianzhen_hub.store import tables
from lianzhen_protocol import imaging
from lianzhen_protocol.accounts import Account, Actor, Profile, Role, Secret, Stamp
from lianzhen_protocol.consultation import HUB, Accepted, Person, State, Who
from lianzhen_protocol.errors import SignatureInvalid
from lianzhen_protocol.imaging import ImageStored, instance_key, study_key
from lianzhen_protocol.key_images import ImageKeyed, Side, keyed
from lianzhen_protocol.opinion import OpinionSigned, TrustRevocations
from lianzhen_protocol.opinion_sheets import Opinion, SigningCertificate, SigningRequest
from lianzhen_protocol.opinion_trust import RevocationList, Standing, judge
from lianzhen_protocol.people import By, Patient, Sex
from support.consultations import CASE, NODE, NOW, PATIENT, assigned
from unit.consultations.desk import Desk

EXPERT = Actor(id="e" * 32, login="wu", name="吴𠮷", roles=frozenset({Role.EXPERT}))
OTHER = Actor(id="f" * 32, login="liu", name="刘", roles=frozenset({Role.EXPERT}))
ADMIN = Actor(id="a" * 32, login="admin", name="管理员", roles=frozenset({Role.ADMIN}))
SEEN = Approval(identity_seen=True, licence_seen=True)
URL = "https://hub.example/verify"


@pytest.fixture(autouse=True)
def quick_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """The browser's key derivation costs a second; the hub's floor moves along with it."""
    monkeypatch.setattr(browser, "ITERATIONS", 1000)
    monkeypatch.setattr(certificates, "MIN_ITERATIONS", 1000)


class Office:
    """The hub's desk with an authority, an expert and a case in their hands."""

    def __init__(self, desk: Desk, folder: Path) -> None:
        self.desk = desk
        self.authority = Authority(folder / "ca", lambda: desk.now_ms / 1000)

    async def opens(self) -> None:
        patient = Patient(
            id=PATIENT,
            node=NODE,
            number="123456789",
            name="䶮㙍𠮷",
            sex=Sex.FEMALE,
            birth_date=date(1949, 12, 31),
            id_number="11010519491231002X",
            registered_by=By(),
            registered_ms=NOW,
        )
        clinic = {"id": NODE, "box": "BOX-1", "clinic": "黄家坝镇卫生院", "status": "active"}
        await self.desk.work(lambda page: page.put(patient))
        await self.desk.work(
            lambda page: page.connection.execute(
                insert(tables.node).values(clinic | {"enrolled_ms": NOW})
            )
        )
        who = Person(id=EXPERT.id, name=EXPERT.name, who=Who.EXPERT)
        await self.desk.pending()
        await self.desk.happens(HUB, assigned(who, NOW + 10**6))
        await self.desk.happens(who, Accepted())

    async def asked(self, actor: Actor = EXPERT, **changes: Any) -> SigningRequest:
        challenge = await self.desk.work(lambda page: certificates.challenge(page, actor))
        body = browser.request_body(challenge.hex(), actor.id) | changes
        wanted = msgspec.convert(body, NewRequest)
        return await self.desk.work(lambda page: certificates.ask(page, actor, wanted))

    async def approved(self, request: str, by: Actor = ADMIN) -> SigningCertificate:
        return await self.desk.work(
            lambda page: certificates.approve(page, self.authority, by, request, SEEN)
        )

    async def certified(self) -> SigningCertificate:
        return await self.approved((await self.asked()).id)

    async def revoked(self, serial: str, *, leaked: bool = False) -> None:
        ending = Ending(reason="离职", leaked=leaked)
        await self.desk.work(
            lambda page: certificates.revoke(page, self.authority, ADMIN, serial, ending)
        )

    async def saves(self, version: int = 0, **typed: str) -> int:
        typed = {"findings": "右下肺斑片影。", "conclusion": "肺炎。", "advice": ""} | typed
        draft = Draft(**typed, version=version)
        saved = await self.desk.work(lambda page: opinions.save(page, EXPERT, CASE, draft))
        return saved.version

    async def to_sign(self, actor: Actor = EXPERT) -> dict[str, Any]:
        found = await self.desk.work(lambda page: opinions.to_sign(page, actor, CASE))
        return dict(msgspec.json.decode(msgspec.json.encode(found)))

    async def signs(self, body: dict[str, Any], actor: Actor = EXPERT) -> Opinion:
        brought = msgspec.convert(body, SignedDocument)
        return await self.desk.work(
            lambda page: opinions.sign(page, self.authority, actor, CASE, brought, URL)
        )

    async def signed(self, **typed: str) -> Opinion:
        draft = await self.desk.work(
            lambda page: opinions.draft_of(page, case_of(page, EXPERT, CASE), EXPERT)
        )
        await self.saves(draft.version, **typed)
        return await self.signs(browser.signed_body(await self.to_sign()))

    async def opinion(self, identity: str) -> Opinion:
        found = await self.desk.work(lambda page: page.get(Opinion, identity))
        assert found
        return found

    async def down(self) -> list[Any]:
        return await self.desk.down("record.trust")


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    async with Desk(tmp_path) as desk:
        found = Office(desk, tmp_path)
        await found.opens()
        yield found


# -- the certificate


async def test_key_images_are_signed_at_the_end_of_the_findings(office: Office) -> None:
    body = ImageStored(
        instance=instance_key(NODE, "a" * 64),
        study=study_key(NODE, "1.2.3"),
        sha256="a" * 64,
        size=1,
        sop_class="1.2",
        sop_uid="1.2.3.4",
        study_uid="1.2.3",
        series_uid="1.2.3.1",
        transfer_syntax="1.2.840.10008.1.2.1",
        modality="CT",
        series_number=1,
        instance_number=14,
        received_ms=NOW,
    )
    mark = ImageKeyed(instance=body.instance, keyed=True, by=EXPERT.id, keyed_ms=NOW)

    def marked(page: HubPage) -> None:
        imaging.stored(page, NODE, body)
        keyed(page, Side.CENTRE, mark)
        case = case_of(page, EXPERT, CASE)
        page.put(msgspec.structs.replace(case, studies=(body.study,)))

    await office.desk.work(marked)
    await office.certified()
    await office.saves()
    before = browser.signed_body(await office.to_sign())
    assert json.loads(before["document"])["findings"].splitlines() == [
        "右下肺斑片影。",
        "关键图像：CT 序列 1 图像 14",
    ]
    # taken off after the page was loaded: what stands there is not what would be signed
    off = msgspec.structs.replace(mark, keyed=False)
    await office.desk.work(lambda page: keyed(page, Side.CENTRE, off))
    with pytest.raises(OpinionDiffers):
        await office.signs(before)
    signed = await office.signs(browser.signed_body(await office.to_sign()))
    assert signed.document.findings == "右下肺斑片影。"


async def test_a_certificate_is_for_opinions_and_nothing_else(office: Office) -> None:
    held = await office.certified()
    found = x509.load_der_x509_certificate(held.certificate)
    usage = found.extensions.get_extension_for_class(x509.KeyUsage).value
    assert (usage.content_commitment, usage.digital_signature) == (True, False)
    purposes = found.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    assert purposes.critical
    assert ExtendedKeyUsageOID.CLIENT_AUTH not in purposes.value
    assert found.subject.rfc4514_string() == (
        f"2.5.4.5=110520000012345,2.5.4.12=主任医师,CN=吴𠮷,UID={EXPERT.id}"
    )
    found.verify_directly_issued_by(office.authority.root)
    assert (found.not_valid_after_utc - found.not_valid_before_utc).days == 365


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"proof": "00" * 64}, "not signed by the key"),
        ({"proof": "00"}, "64 bytes"),
        ({"spki": "00"}, "not a public key"),
        ({"title": "主\u202e任"}, "cannot be seen"),
        (
            {"wrapped": {"iterations": 999, "salt": "00" * 16, "nonce": "00" * 12, "sealed": "00"}},
            "weakly",
        ),
        (
            {
                "wrapped": {
                    "iterations": 1000,
                    "salt": "00" * 15,
                    "nonce": "00" * 12,
                    "sealed": "00",
                }
            },
            "weakly",
        ),
        (
            {"wrapped": {"iterations": 1000, "salt": "00" * 16, "nonce": "00", "sealed": "00"}},
            "no sealed",
        ),
        (
            {"wrapped": {"iterations": 1000, "salt": "xx", "nonce": "00", "sealed": "00"}},
            "hexadecimal",
        ),
    ],
)
async def test_a_request_that_proves_or_seals_nothing(
    office: Office, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(RequestRefused, match=words):
        await office.asked(**changes)


async def test_a_challenge_is_good_once_and_for_minutes(office: Office) -> None:
    challenge = await office.desk.work(lambda page: certificates.challenge(page, EXPERT))
    wanted = msgspec.convert(browser.request_body(challenge.hex(), EXPERT.id), NewRequest)
    with pytest.raises(RequestRefused):  # another account's
        await office.desk.work(lambda page: certificates.ask(page, OTHER, wanted))
    office.desk.now_ms += 11 * 60_000
    with pytest.raises(RequestRefused, match="too long"):
        await office.desk.work(lambda page: certificates.ask(page, EXPERT, wanted))
    office.desk.now_ms -= 11 * 60_000
    await office.desk.work(lambda page: certificates.ask(page, EXPERT, wanted))
    with pytest.raises(RequestRefused, match="too long"):
        await office.desk.work(lambda page: certificates.ask(page, EXPERT, wanted))


async def test_an_admin_confirms_both_and_never_themselves(office: Office) -> None:
    request = (await office.asked()).id
    for seen in (Approval(), Approval(identity_seen=True), Approval(licence_seen=True)):
        with pytest.raises(NotConfirmed):
            await office.desk.work(
                lambda page, seen=seen: certificates.approve(  # type: ignore[misc]
                    page, office.authority, ADMIN, request, seen
                )
            )
    with pytest.raises(NotConfirmed, match="their own"):
        await office.approved(request, EXPERT)
    await office.approved(request)
    with pytest.raises(Decided):
        await office.approved(request)


async def test_a_later_request_replaces_the_one_before(office: Office) -> None:
    first, second = await office.asked(), await office.asked()
    with pytest.raises(Decided):
        await office.approved(first.id)
    await office.approved(second.id)


async def test_certificates_of_an_ended_account_are_revoked(office: Office) -> None:
    held = await office.certified()
    stamp = Stamp(NOW, "0")
    account = Account(
        id=EXPERT.id,
        node="",
        profile=Profile(login="wu", name=EXPERT.name, roles=(Role.EXPERT,)),
        secret=Secret(password=""),
        profile_stamp=stamp,
        secret_stamp=stamp,
    )
    await office.desk.work(lambda page: page.put(account))
    assert (
        await office.desk.work(lambda page: certificates.end_orphans(page, office.authority)) == 0
    )
    ended = account.with_profile(NOW, "1", status="revoked")
    await office.desk.work(lambda page: page.put(ended))
    assert (
        await office.desk.work(lambda page: certificates.end_orphans(page, office.authority)) == 1
    )
    listed = await office.desk.work(lambda page: certificates.issue_list(page, office.authority))
    found = RevocationList(listed.revocations, [office.authority.root])
    assert found.revoked(int(held.serial, 16)) is not None


async def test_lists_count_up_within_a_second(office: Office) -> None:
    first = await office.desk.work(lambda page: certificates.issue_list(page, office.authority))
    second = await office.desk.work(lambda page: certificates.issue_list(page, office.authority))
    made = [RevocationList(each.revocations, [office.authority.root]) for each in (first, second)]
    assert [each.number for each in made] == [first.number, first.number + 1]


# -- the opinion


async def test_a_signed_opinion_goes_down_behind_the_list_that_judges_it(office: Office) -> None:
    await office.certified()
    found = await office.signed(advice="  48 小时复评。\r\n")
    case = await office.desk.case()
    assert (case.state, case.opinion and case.opinion.id) == (State.SIGNED, found.id)
    listed, signed = await office.down()
    assert isinstance(listed, TrustRevocations)
    assert isinstance(signed, OpinionSigned)
    held = RevocationList(listed.revocations, [office.authority.root])
    verdict = judge(signed, [office.authority.root], held, office.desk.now_ms)
    assert verdict.standing is Standing.VALID
    said = found.document
    assert said.advice == "48 小时复评。"
    assert (said.patient.name, said.patient.number) == ("䶮㙍𠮷", "110105********002X")
    assert (said.clinic, said.signer.name) == ("黄家坝镇卫生院", "吴𠮷")


async def test_the_hub_keeps_no_key_that_opens_without_the_passphrase(office: Office) -> None:
    await office.certified()
    await office.saves()
    with pytest.raises(InvalidTag):
        browser.signed_body(await office.to_sign(), "another passphrase")


async def test_a_lost_answer_is_asked_again_and_nothing_doubles(office: Office) -> None:
    await office.certified()
    await office.saves()
    body = browser.signed_body(await office.to_sign())
    assert await office.signs(body) == await office.signs(body)
    assert len(await office.down()) == 2
    assert [event.what.__struct_config__.tag for event in (await office.desk.case()).events][
        -2:
    ] == [
        "opinion-written",
        "signed",
    ]


async def test_what_was_signed_is_what_is_to_be_signed_or_nothing(office: Office) -> None:
    await office.certified()
    version = await office.saves()
    body = browser.signed_body(await office.to_sign())
    changed = body | {
        "signature": body["signature"][:-1] + ("0" if body["signature"][-1] != "0" else "1")
    }
    with pytest.raises(SignatureInvalid):
        await office.signs(changed)
    with pytest.raises(OpinionDiffers, match="changed"):
        await office.signs(body | {"document": body["document"].replace("肺炎", "肺癌")})
    office.desk.now_ms += 11 * 60_000
    with pytest.raises(OpinionDiffers, match="too long"):
        await office.signs(body)
    office.desk.now_ms -= 11 * 60_000
    await office.saves(version, conclusion="另一个结论。")
    with pytest.raises(OpinionDiffers, match="draft"):
        await office.signs(body)
    assert await office.down() == []
    assert (await office.desk.case()).state is State.ACCEPTED


async def test_nobody_else_may_write_or_sign_it(office: Office) -> None:
    await office.certified()
    await office.saves()
    body = browser.signed_body(await office.to_sign())
    with pytest.raises(NoSuchCase):
        await office.to_sign(OTHER)
    with pytest.raises(NoSuchCase):
        await office.signs(body, OTHER)
    with pytest.raises(NoSuchCase):
        await office.signs(body, ADMIN)


async def test_without_a_certificate_in_force_nothing_is_signed(office: Office) -> None:
    await office.saves()
    with pytest.raises(NoCertificate):
        await office.to_sign()
    held = await office.certified()
    body = browser.signed_body(await office.to_sign())
    await office.revoked(held.serial)
    with pytest.raises(NoCertificate):
        await office.signs(body)
    office.desk.now_ms += 366 * 86_400_000
    with pytest.raises(NoCertificate):
        await office.to_sign()


async def test_an_opinion_is_whole_before_it_is_signed(office: Office) -> None:
    await office.certified()
    with pytest.raises(NotReadyToSign, match="write"):
        await office.to_sign()
    version = await office.saves(conclusion=" ")
    with pytest.raises(NotReadyToSign, match="conclusion"):
        await office.to_sign()
    version = await office.saves(version, advice="a\u202eb")
    with pytest.raises(NotReadyToSign, match="cannot be seen"):
        await office.to_sign()
    await office.desk.work(lambda page: page.delete(Patient, PATIENT))
    await office.saves(version)
    with pytest.raises(NotReadyToSign, match="registration"):
        await office.to_sign()


async def test_a_page_that_is_behind_does_not_overwrite(office: Office) -> None:
    await office.saves()
    with pytest.raises(DraftBehind):
        await office.saves()


async def test_an_amendment_is_a_second_opinion_beside_the_first(office: Office) -> None:
    await office.certified()
    first = await office.signed()
    second = await office.signed(conclusion="补充：考虑合并胸腔积液。")
    assert second.document.amends == first.id
    assert (await office.opinion(first.id)).state == "amended"
    assert (await office.opinion(first.id)).signed == first.signed
    case = await office.desk.case()
    assert (case.state, case.opinion and case.opinion.id) == (State.AMENDED, second.id)
    third = await office.signed(conclusion="再补充。")
    assert third.document.amends == second.id


async def test_revocation_afterwards_is_said_and_a_known_key_ends_it(office: Office) -> None:
    held = await office.certified()
    found = await office.signed()
    office.desk.now_ms += 3_600_000
    await office.revoked(held.serial)
    found = await office.opinion(found.id)
    assert (found.state, found.revoked_ms is not None) == ("signed", True)
    with pytest.raises(Decided):
        await office.revoked(held.serial)
    await office.revoked(held.serial, leaked=True)
    found = await office.opinion(found.id)
    assert (found.state, found.standing) == ("refused", "revoked")
    verdict = await office.desk.work(
        lambda page: verdict_now(page, office.authority.anchors, found.signed, page.now_ms)
    )
    assert verdict.standing is Standing.REVOKED


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        ("11010519491231002X", "110105********002X"),
        ("1234567", "*******"),
        (None, ""),
        ("", ""),
    ],
)
def test_an_identity_number_is_masked(number: str | None, shown: str) -> None:
    assert masked_number(number) == shown
