"""From an expert's new key to the sheet in the clinic's tray, in real browsers on real programs."""

from __future__ import annotations

import io
import json
import re
from typing import Any, NamedTuple

import pypdf
import pytest
from cryptography import x509
from playwright.sync_api import Page, expect

import expert as python_browser
from lab import wait_until
from lianzhen_protocol.accounts import Role
from lianzhen_protocol.identity import uuid7
from lianzhen_protocol.opinion import check_digest, digest, read_printed_code
from lianzhen_protocol.opinion_trust import certificate_key
from support.browser import Pages, Site, assert_clean
from support.patients import registered

PASSPHRASE = "四只猫 on a hot roof"
FINDINGS = "右下肺斑片影，边界不清。"
CONCLUSION = "社区获得性肺炎（㙍𠮷）"


class Told(NamedTuple):
    """A case that this expert works on."""

    case: str
    patient: str


@pytest.fixture(scope="module")
def told(site: Site) -> Told:
    """A doctor has asked, the expert has taken it."""
    expert, admin = site.centre.of(Role.EXPERT), site.centre.of(Role.ADMIN)
    wanted = {"title": "chief", "departments": ["03.01"], "icd": "J18"}
    assert admin.caller.post(f"/experts/{expert.id}", wanted).status == 200
    patient = registered(site.clinic)
    ask = {
        "complaint": "发热咳嗽三天",
        "department": "03.01",
        "icd": "J18.9",
        "ask": True,
        "consent": True,
        "consent_given_by": "张三",
    }
    doctor = site.clinic.of(Role.DOCTOR).caller
    reply = doctor.post(f"/patients/{patient}/consultations", ask)
    assert reply.status == 200, reply
    case = str(reply.body["id"])

    def taken() -> bool:
        expert.caller.get("/inbox")  # who looks is online
        return expert.caller.post(f"/cases/{case}/accept").status == 200

    wait_until("a case that the expert took", taken)
    return Told(case, patient)


def approve(site: Site, request: str) -> str:
    seen = {"identity_seen": True, "licence_seen": True}
    admin = site.centre.of(Role.ADMIN).caller
    reply = admin.post(f"/signers/requests/{request}/approve", seen)
    assert reply.status == 200, reply
    return str(reply.body["serial"])


def at_clinic(site: Site, opinion: str) -> Any:
    """An opinion as the box has it, once it is judged."""
    nurse = site.clinic.of(Role.NURSE).caller

    def judged() -> bool:
        reply = nurse.get(f"/opinions/{opinion}")
        return reply.status == 200 and reply.body["opinion"]["state"] != "arrived"

    wait_until("an opinion at the clinic", judged)
    return nurse.get(f"/opinions/{opinion}").body["opinion"]


def typed(page: Page, label: str, text: str) -> None:
    page.get_by_label(label, exact=True).fill(text)


def test_a_key_is_made_and_an_opinion_signed_in_the_browser(
    hub_page: Pages, clinic_page: Pages, site: Site, told: Told
) -> None:
    page = hub_page(Role.EXPERT, "/signing")
    typed(page, "职称", "主任医师")
    typed(page, "执业证书编码", "110520000012345")
    page.locator("[name=passphrase]").fill(PASSPHRASE)
    page.locator("[name=again]").fill(PASSPHRASE + "x")
    page.get_by_role("button", name="生成密钥并申请").click()
    expect(page.get_by_role("alert")).to_have_text("两次输入的口令不一致。")
    page.locator("[name=again]").fill(PASSPHRASE)
    assert_clean(page)
    page.get_by_role("button", name="生成密钥并申请").click()
    expect(page.get_by_text("待核准")).to_be_visible()

    admin = hub_page(Role.ADMIN, "/signers", "phone")
    assert_clean(admin)
    admin.get_by_label("我已核对本人身份").check()
    admin.get_by_label("我已核对执业证书").check()
    admin.get_by_role("button", name="核准并签发证书").click()
    expect(admin.get_by_role("button", name="核准并签发证书")).to_have_count(0)
    expect(admin.get_by_text("有效", exact=True).first).to_be_visible()
    assert_clean(admin)

    page.goto(f"/cases/{told.case}/opinion")
    page.locator("[name=findings]").fill(FINDINGS)
    page.locator("[name=conclusion]").fill(CONCLUSION)
    expect(page.get_by_role("status").filter(has_text="草稿已保存")).to_be_visible()
    assert_clean(page)
    page.get_by_role("button", name="保存并去签名").click()
    page.wait_for_url("**/opinion/sign")
    expect(page.get_by_text(FINDINGS)).to_be_visible()
    expect(page.get_by_text("张三")).to_be_visible()
    expect(page.get_by_text("呼吸内科")).to_be_visible()
    assert_clean(page)
    page.locator("[name=passphrase]").fill("another passphrase")
    page.get_by_role("button", name="签名", exact=True).click()
    expect(page.get_by_role("alert")).to_have_text("口令不正确。")
    shown = page.locator("dd code").inner_text()
    page.locator("[name=passphrase]").fill(PASSPHRASE)
    page.get_by_role("button", name="签名", exact=True).click()
    page.wait_for_url(re.compile(f"/cases/{told.case}/opinion$"))
    expect(page.get_by_text("签名有效")).to_be_visible()
    assert_clean(page)

    # what Chromium signed, verified by another program: canonical text made by json, not by us
    expert = site.centre.of(Role.EXPERT).caller
    (opinion,) = expert.get(f"/cases/{told.case}/opinion").body["opinions"]
    text = json.dumps(
        opinion["document"], ensure_ascii=False, sort_keys=True, separators=(",", ":")
    ).encode()
    code = read_printed_code(opinion["code"])
    assert code.digest == digest(code.suite, text)
    assert code.digest.hex() == shown
    certificate = bytes.fromhex(write(site, told, CONCLUSION)["certificate"])
    key = certificate_key(x509.load_der_x509_certificate(certificate))
    check_digest(key, code.suite, code.digest, code.signature)

    assert at_clinic(site, opinion["id"])["verdict"]["standing"] == "valid"
    clinic = clinic_page(Role.NURSE, f"/opinions/{opinion['id']}", "phone")
    expect(clinic.get_by_text(CONCLUSION)).to_be_visible()
    expect(clinic.get_by_text("吊销名单截至")).to_be_visible()
    assert_clean(clinic)


def write(site: Site, told: Told, conclusion: str) -> Any:
    """Type, as a program does; what is to be signed now."""
    expert = site.centre.of(Role.EXPERT).caller
    draft = expert.get(f"/cases/{told.case}/opinion").body["draft"]
    saved = {"findings": FINDINGS, "conclusion": conclusion, "version": draft["version"]}
    assert expert.post(f"/cases/{told.case}/opinion", saved).status == 200
    reply = expert.get(f"/cases/{told.case}/opinion/sign")
    assert reply.status == 200, reply
    return reply.body["to_sign"]


def test_an_amendment_is_printed_and_its_code_verifies(
    hub_page: Pages, clinic_page: Pages, site: Site, told: Told
) -> None:
    """A key made and used in Python, by the same requests; the tray is empty at first."""
    expert, nurse = site.centre.of(Role.EXPERT).caller, site.clinic.of(Role.NURSE).caller
    challenge = expert.post("/signing/challenge").body
    body = python_browser.request_body(challenge["challenge"], challenge["account"])
    serial = approve(site, expert.post("/signing/request", body).body["id"])
    to_sign = write(site, told, CONCLUSION + "补充")
    signed = expert.post(f"/cases/{told.case}/opinion/sign", python_browser.signed_body(to_sign))
    assert signed.status == 200, signed
    opinion = at_clinic(site, signed.body["id"])
    assert opinion["verdict"]["standing"] == "valid"

    printed = len(site.printer.printed())
    site.printer.take_paper()
    try:
        job = uuid7(1, bytes(10)).hex()
        wish = {"paper": "A4", "job": job}
        for _ in range(2):  # asked twice, printed once
            assert nurse.post(f"/opinions/{opinion['id']}/print", wish).status == 200
        page = clinic_page(Role.NURSE, "/printing", "phone")
        expect(page.get_by_text("缺纸").first).to_be_visible()
        assert_clean(page)
    finally:
        site.printer.put_paper()
    expect(page.get_by_text("已打印").first).to_be_visible()
    assert_clean(page)
    (sheet,) = site.printer.printed()[printed:]
    text = "".join(each.extract_text() for each in pypdf.PdfReader(io.BytesIO(sheet)).pages)
    assert CONCLUSION + "补充" in text
    assert opinion["document"]["signer"]["name"] in text

    # whoever scans the paper
    code = opinion["code"]
    address = code[code.index("/verify") :]
    verify = hub_page(None, address, "phone")
    expect(verify.get_by_text("有效：")).to_be_visible()
    expect(verify.get_by_text("张*")).to_be_visible()
    assert_clean(verify)
    found = read_printed_code(code)
    certificate = x509.load_der_x509_certificate(bytes.fromhex(to_sign["certificate"]))
    check_digest(certificate_key(certificate), found.suite, found.digest, found.signature)
    at = address.index("&h=") + 3
    other = address[:at] + ("B" if address[at] == "A" else "A") + address[at + 1 :]
    expect(hub_page(None, other).get_by_text("无效：")).to_be_visible()

    # the key is known to others: nothing that it signed stands, here and at the clinic
    admin = site.centre.of(Role.ADMIN).caller
    ending = {"reason": "口令泄露", "leaked": True}
    assert admin.post(f"/signers/{serial}/revoke", ending).status == 200
    expect(hub_page(None, address).get_by_text("已被吊销")).to_be_visible()

    def refused() -> bool:
        return bool(nurse.get(f"/opinions/{opinion['id']}").body["opinion"]["state"] == "refused")

    wait_until("an opinion that the box refuses", refused)
    assert nurse.post(f"/opinions/{opinion['id']}/print", {}).body["code"] == "opinion-refused"
    assert nurse.get(f"/opinions/{opinion['id']}/pdf").status == 409
    assert_clean(clinic_page(Role.DOCTOR, f"/patients/{told.patient}/opinions"))
