"""The pages of consultations as doctor, expert, admin and patient see them."""

import re

import pytest
from playwright.sync_api import Page, expect

from lab import wait_until
from lianzhen_protocol.accounts import Role
from support.browser import Pages, Site, assert_clean
from support.patients import registered

SIZES = ("desktop", "phone")


@pytest.fixture(scope="module")
def patient(site: Site) -> str:
    return registered(site.clinic)


@pytest.fixture(scope="module", autouse=True)
def profile(site: Site) -> None:
    """The expert may be asked for cardiology."""
    expert, admin = site.centre.of(Role.EXPERT), site.centre.of(Role.ADMIN)
    wanted = {"title": "chief", "departments": ["03.04", "32.02"], "icd": "I10 I20"}
    assert admin.caller.post(f"/experts/{expert.id}", wanted).status == 200


def ask(site: Site, patient: str, **changes: object) -> str:
    wanted = {
        "complaint": "胸痛两小时，向左肩放射",
        "department": "03.04",
        "icd": "I20.0",
        "ask": True,
        "consent": True,
        "consent_given_by": "张三",
    }
    doctor = site.clinic.of(Role.DOCTOR)
    reply = doctor.caller.post(f"/patients/{patient}/consultations", wanted | changes)
    assert reply.status == 200, reply
    return str(reply.body["id"])


def cancel(site: Site, case: str) -> None:
    doctor = site.clinic.of(Role.DOCTOR)
    assert doctor.caller.post(f"/consultations/{case}/cancel", {"reason": "好转"}).status == 200


def fill(page: Page) -> None:
    page.get_by_label("主诉").fill("胸痛两小时，向左肩放射")
    page.get_by_label("科室").select_option(label="心血管内科")
    page.get_by_label("同意人姓名").fill("张三")


def test_a_doctor_asks_in_the_browser(clinic_page: Pages, site: Site, patient: str) -> None:
    page = clinic_page(Role.DOCTOR, f"/patients/{patient}/consultations/new", "phone")
    assert_clean(page)
    fill(page)
    page.get_by_role("button", name="提出申请").click()
    assert page.url.endswith("/new")  # no tick, no request
    page.get_by_label("已向患者").check()
    page.get_by_role("button", name="提出申请").click()
    page.wait_for_url(re.compile(r"/consultations/[0-9a-f]{32}$"))
    expect(page.get_by_text("书面签字")).to_be_visible()
    waits = page.get_by_text("暂无专家在线")
    expect(waits.or_(page.get_by_text("已邀请专家")).first).to_be_visible()
    assert_clean(page)
    cancel(site, page.url.rpartition("/")[2])


@pytest.mark.parametrize("size", SIZES)
def test_the_inbox_is_live_and_the_case_is_taken(
    hub_page: Pages, site: Site, patient: str, size: str
) -> None:
    page = hub_page(Role.EXPERT, "/inbox", size)
    expect(page.get_by_role("heading", name="邀请我的")).to_be_visible()
    assert_clean(page)
    case = ask(site, patient)
    # the page was opened once and nobody touches it
    expect(page.get_by_text("胸痛两小时，向左肩放射")).to_be_visible()
    assert_clean(page)
    page.get_by_role("button", name="接诊").click()
    page.wait_for_url(f"**/cases/{case}")
    expect(page.locator(".identity")).to_contain_text("张三")
    page.get_by_role("button", name="开始会诊").click()
    expect(page.get_by_text("会诊中").first).to_be_visible()
    assert_clean(page)
    cancel(site, case)


@pytest.mark.parametrize("size", SIZES)
def test_lists_of_the_clinic(clinic_page: Pages, site: Site, patient: str, size: str) -> None:
    case = ask(site, patient)
    page = clinic_page(Role.NURSE, "/consultations", size)
    expect(page.get_by_role("link", name="张三").first).to_be_visible()
    assert_clean(page)
    assert_clean(clinic_page(Role.DOCTOR, f"/consultations/{case}", size, "en"))
    cancel(site, case)
    expect(page.get_by_text("已取消").first).to_be_attached()


@pytest.mark.parametrize("size", SIZES)
def test_expert_profiles(hub_page: Pages, site: Site, size: str) -> None:
    page = hub_page(Role.ADMIN, "/experts", size)
    expect(page.get_by_text("主任医师")).to_be_visible()
    assert_clean(page)
    expert = site.centre.of(Role.EXPERT)
    one = hub_page(Role.ADMIN, f"/experts/{expert.id}", size)
    expect(one.get_by_label("心血管内科")).to_be_checked()
    assert_clean(one)
    one.get_by_role("button", name="保存").click()
    one.wait_for_url("**/experts")


@pytest.mark.parametrize("size", SIZES)
def test_a_patient_sees_their_own(hub_page: Pages, site: Site, patient: str, size: str) -> None:
    case = ask(site, patient)
    person = site.centre.of(Role.PATIENT)
    shown = person.caller.get("/mine").body
    assert shown["consultations"] == []  # an account of another patient
    page = hub_page(Role.PATIENT, "/mine", size)
    expect(page.get_by_text("还没有会诊")).to_be_visible()
    assert_clean(page)
    cancel(site, case)
    wait_until("the hub agrees", lambda: _ended(site, case))


def _ended(site: Site, case: str) -> bool:
    doctor = site.clinic.of(Role.DOCTOR)
    return bool(doctor.caller.get(f"/consultations/{case}").body["case"]["waiting"] == [])
