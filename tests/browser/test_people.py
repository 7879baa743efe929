"""From registration to a joined study, by what people click: nothing joins by a name alone."""

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from playwright.sync_api import Page, expect
from pydicom.uid import generate_uid

from lab import ask, wait_until
from lianzhen_protocol import kinds
from lianzhen_protocol.accounts import Role
from lianzhen_protocol.gb11643 import check_character
from lianzhen_protocol.identity import uuid7
from lianzhen_protocol.people import PatientRegistered
from support.browser import SIZES, Pages, Site, assert_clean
from support.modality import ct_slice, storescu
from support.people import NOW_MS, OTHER, a_patient


def assert_clean_at_both_sizes(page: Page) -> None:
    """The same page on a desk and in a hand."""
    for width, height in SIZES.values():
        page.set_viewport_size({"width": width, "height": height})
        assert_clean(page)


def an_id_number(order: int) -> str:
    digits = f"52030219490228{order:03d}"
    return digits + check_character(digits)


class Known(NamedTuple):
    """A patient whom a nurse registered, over JSON."""

    id: str
    number: str
    name: str


@pytest.fixture(scope="module")
def registered(site: Site) -> Callable[..., Known]:
    caller = site.clinic.of(Role.NURSE).caller

    def register(name: str, **details: Any) -> Known:
        reply = caller.post("/patients", {"name": name, **details})
        assert reply.status == 200, reply
        return Known(reply.body["id"], reply.body["number"], name)

    return register


@pytest.fixture(scope="module")
def wang(registered: Callable[..., Known]) -> Known:
    return registered("王秀兰", id_number=an_id_number(2))


def number_of(page: Page) -> str:
    """The patient number as the banner shows it."""
    text = page.locator(".identity .number").last.inner_text()
    return text.replace(" ", "")


# -- registering


def test_a_nurse_registers_a_patient_and_finds_them(clinic_page: Pages) -> None:
    page = clinic_page(Role.NURSE, "/patients")
    assert_clean_at_both_sizes(page)
    page.get_by_role("link", name="登记患者").click()
    number = an_id_number(11)  # odd: a man
    page.locator("[name=id_number]:visible").fill(number[:-1] + ("1" if number[-1] != "1" else "2"))
    expect(page.locator("[data-said]")).to_contain_text("有一位输错了")
    page.locator("[name=id_number]:visible").fill(number)
    expect(page.locator("[name=birth_date]:visible")).to_have_value("1949-02-28")
    expect(page.locator("[name=sex]:visible")).to_have_value("M")
    assert_clean_at_both_sizes(page)
    page.locator("[name=name]:visible").fill("陈大山")
    page.get_by_role("button", name="登记", exact=True).click()
    banner = page.get_by_role("region", name="当前患者")
    expect(banner).to_contain_text("陈大山")
    expect(banner).to_contain_text("男")
    expect(banner).to_contain_text("岁")
    expect(banner).to_contain_text("1949-02-28")
    assert_clean_at_both_sizes(page)
    patient = number_of(page)
    page.goto(f"/patients?q={patient[-4:]}")
    expect(page.get_by_role("link", name="陈大山")).to_be_visible()


def test_the_same_person_is_not_registered_twice(clinic_page: Pages, wang: Known) -> None:
    page = clinic_page(Role.NURSE, "/patients/new")
    page.locator("[name=id_number]:visible").fill(an_id_number(2))
    expect(page.locator("[data-said] a")).to_have_attribute("href", f"/patients/{wang.id}")
    page.locator("[name=name]:visible").fill("王秀蓝")
    page.get_by_role("button", name="登记", exact=True).click()
    expect(page.get_by_role("region", name="当前患者")).to_contain_text("王秀兰")
    expect(page.get_by_text("没有重复建立")).to_be_visible()


def test_what_cannot_be_is_said_and_nothing_typed_is_lost(clinic_page: Pages) -> None:
    page = clinic_page(Role.NURSE, "/patients/new", "phone")
    page.locator("[name=name]:visible").fill("刘三")
    page.get_by_role("button", name="登记", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("必须填写出生日期")
    expect(page.locator("[name=name]:visible")).to_have_value("刘三")
    # The refusal itself is what the browser notes on its console.
    page.locator("[name=birth_date]:visible").fill("1990-05-06")
    page.get_by_role("button", name="登记", exact=True).click()
    expect(page.get_by_role("region", name="当前患者")).to_contain_text("刘三")


def test_an_unknown_person_is_one_button_and_is_linked_later(
    clinic_page: Pages, wang: Known
) -> None:
    page = clinic_page(Role.NURSE, "/patients")
    page.get_by_role("button", name="身份不明").click()
    banner = page.get_by_role("region", name="当前患者")
    expect(banner).to_contain_text("临时身份")
    assert_clean_at_both_sizes(page)
    unknown = number_of(page)
    page.get_by_text("对应到已知患者").first.click()
    page.locator("[name=number]:visible").fill(wang.number)
    page.locator("[name=second]:visible").fill("1949-02-28")
    page.locator("[name=why]:visible").fill("家属带来身份证")
    page.get_by_role("button", name="对应到已知患者").click()
    expect(banner).to_contain_text(wang.name)
    page.get_by_role("link", name=unknown).click()
    expect(page.get_by_text("这个临时身份已对应到")).to_be_visible()
    page.get_by_text("撤销对应").first.click()
    page.locator("[name=why]:visible").fill("认错人")
    page.get_by_role("button", name="撤销对应").click()
    expect(page.get_by_text("这个临时身份已对应到")).to_have_count(0)


# -- who wears what


def test_a_device_is_put_on_by_two_identifiers_and_taken_off(
    clinic_page: Pages, site: Site, wang: Known
) -> None:
    reply = site.clinic.of(Role.NURSE).caller.post("/wearables", {"name": "血氧 3 号"})
    device = reply.body["id"]
    page = clinic_page(Role.NURSE, f"/bindings/new?number={wang.number}")
    page.locator("[name=device]").select_option(device)
    page.get_by_role("button", name="下一步").click()
    expect(page.get_by_text("1949-02-28")).to_be_visible()
    assert_clean_at_both_sizes(page)
    page.locator("[name=second]").fill("李秀兰")
    page.get_by_role("button", name=f"戴在 {wang.name} 身上").click()
    expect(page.get_by_role("alert")).to_contain_text("与这位患者不符")
    page.locator("[name=second]").fill("1949.02.28")
    page.get_by_role("button", name=f"戴在 {wang.name} 身上").click()
    expect(page.get_by_text("正在佩戴")).to_be_visible()
    page.get_by_role("link", name="血氧 3 号").click()
    expect(page.get_by_role("region", name="当前患者")).to_contain_text(wang.name)
    page.get_by_role("button", name="取下").click()
    expect(page.get_by_role("button", name="取下")).to_have_count(0)
    page.get_by_text("戴错人了").first.click()
    page.locator("[name=why]").fill("戴在邻床身上")
    page.get_by_role("button", name="戴错人了").click()
    expect(page.get_by_text("戴在邻床身上")).to_be_visible()
    expect(page.get_by_text("戴错人了")).to_have_count(0)


# -- the tray


def sends(site: Site, folder: Path, **more: Any) -> str:
    """A CT comes from the scanner; the study's UID."""
    site.box.ask("modalities", "--admit", "CT1@127.0.0.1")
    uid = generate_uid()
    path = folder / "one.dcm"
    ct_slice(1, uid, generate_uid(), **more).save_as(path, enforce_file_format=True)
    assert storescu(site.box.dicom_port, [path]).good == [path]
    return str(uid)


def waits(site: Site, claimed: str) -> dict[str, Any]:
    """The item of the tray that came under a PatientID."""
    caller = site.clinic.of(Role.NURSE).caller

    def found() -> list[dict[str, Any]]:
        items = caller.get("/tray").body["items"]
        return [item for item in items if item["claimed"]["patient_id"] == claimed]

    wait_until("a study in the tray", lambda: bool(found()))
    return found()[0]


def test_a_study_waits_is_joined_by_two_identifiers_and_taken_out_again(
    clinic_page: Pages, site: Site, wang: Known, tmp_path: Path
) -> None:
    claimed = "HIS-0042"
    page = clinic_page(Role.NURSE, "/tray")
    sends(site, tmp_path, PatientName="王^秀兰", PatientID=claimed)
    expect(page.get_by_text(claimed)).to_be_visible()  # by the live stream, without a reload
    assert_clean_at_both_sizes(page)
    item = waits(site, claimed)
    page.goto(f"/tray/{item['id']}")
    expect(page.get_by_text("不是本院患者编号")).to_be_visible()
    page.locator("[name=number]:visible").fill(wang.number)
    page.get_by_role("button", name="下一步").click()
    expect(page.get_by_role("heading", name="是这位患者吗")).to_be_visible()
    assert_clean_at_both_sizes(page)
    page.locator("[name=second]:visible").fill(wang.name)
    page.locator("[name=why]:visible").fill("申请单与本人核对")
    page.get_by_role("button", name=f"归入 {wang.name}").click()
    expect(page.get_by_role("region", name="当前患者")).to_contain_text(wang.name)
    expect(page.get_by_text("申请单与本人核对")).to_be_visible()
    assert_clean_at_both_sizes(page)
    page.locator("[name=why]:visible").fill("片子上的人更年轻")
    page.get_by_role("button", name="撤销归入").click()
    expect(page.get_by_role("region", name="当前患者")).to_have_count(0)
    again = waits(site, claimed)
    assert again == item


def test_a_wrong_second_identifier_joins_nothing(
    clinic_page: Pages, site: Site, wang: Known, tmp_path: Path
) -> None:
    sends(site, tmp_path, PatientName="王^秀兰", PatientID="")
    item = waits(site, "")
    page = clinic_page(Role.NURSE, f"/tray/{item['id']}?number={wang.number}")
    page.locator("[name=second]:visible").fill("1950-02-28")
    page.locator("[name=why]:visible").fill("大概是她")
    page.get_by_role("button", name=f"归入 {wang.name}").click()
    expect(page.get_by_role("alert")).to_contain_text("与这位患者不符")
    assert waits(site, "") == item


def test_a_study_with_number_and_birth_date_joins_by_itself(
    site: Site, wang: Known, tmp_path: Path
) -> None:
    told = {"PatientID": wang.number, "PatientName": "Wang^Xiulan", "PatientBirthDate": "19490228"}
    sends(site, tmp_path, **told)
    caller = site.clinic.of(Role.NURSE).caller

    def joined() -> list[Any]:
        return [
            item["join"]["by"]["account"]
            for item in caller.get(f"/patients/{wang.id}").body["items"]
            if item["claimed"]["patient_id"] == wang.number
        ]

    wait_until("a joined study", lambda: bool(joined()))
    assert joined() == [""]


# -- the box


@pytest.mark.parametrize("path", ["/", "/bindings"])
def test_pages_of_a_nurse(clinic_page: Pages, wang: Known, path: str) -> None:
    assert_clean_at_both_sizes(clinic_page(Role.NURSE, path))


def test_pages_in_english(clinic_page: Pages, wang: Known) -> None:
    page = clinic_page(Role.NURSE, f"/patients/{wang.id}", "phone", "en")
    expect(page.get_by_role("heading", name="Devices worn")).to_be_visible()
    page.goto("/status")
    expect(page.get_by_text("Connected to the hub")).to_be_visible()
    assert_clean_at_both_sizes(page)


def test_what_has_come_how_far_is_said_for_each_kind(site: Site, wang: Known) -> None:
    caller = site.clinic.of(Role.NURSE).caller

    def row() -> dict[str, Any]:
        rows = caller.get("/status").body["rows"]
        return next(dict(row) for row in rows if row["stream"] == "record.people")

    wait_until("safe patients", lambda: row()["safe"] == row()["stored"] > 0)
    assert row()["waiting"] == 0
    assert row()["oldest_ms"] is None


def test_what_the_hub_could_not_take_is_said_in_words(clinic_page: Pages, site: Site) -> None:
    # Past the desk, which would refuse it: a patient of another clinic.
    foreign = PatientRegistered(patient=a_patient(node=OTHER))
    identity = uuid7(NOW_MS, secrets.token_bytes(10))
    entry = kinds.encode(foreign, identity, NOW_MS)
    put = "/records?stream=record.people"
    answer = ask(site.box.state / "control.sock", "POST", put, msgspec.msgpack.encode([entry]))
    assert answer.status == 201, answer.body
    caller = site.clinic.of(Role.NURSE).caller

    def rejected() -> list[str]:
        shown = caller.get("/status").body["rejections"]
        return [one["code"] for one in shown if one["id"] == identity.hex()]

    wait_until("the hub's answer", lambda: bool(rejected()))
    assert rejected() == ["patient-foreign"]
    page = clinic_page(Role.NURSE, "/status")
    row = page.get_by_role("row").filter(has_text=identity.hex())
    expect(row).to_contain_text("这是其他机构的患者")
    assert_clean_at_both_sizes(page)


def test_an_admin_at_the_hub_finds_a_patient_by_number_and_sees_nobody(
    hub_page: Pages, site: Site, wang: Known
) -> None:
    admin = site.centre.of(Role.ADMIN).caller
    wait_until("the patient", lambda: bool(admin.get(f"/patients?q={wang.number}").body["rows"]))
    page = hub_page(Role.ADMIN, f"/patients?q={an_id_number(2)}")
    page.get_by_role("link", name="王**").click()
    expect(page.get_by_text("520302", exact=False)).to_have_count(0)
    for hidden in (wang.name, wang.number, an_id_number(2), "1949-02-28"):
        assert hidden not in page.content()
    assert_clean_at_both_sizes(page)
    assert_clean_at_both_sizes(hub_page(Role.ADMIN, "/patients"))
