"""Vital signs, alarms and wearables as people see and hear them."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from lianzhen_protocol.accounts import Role
from support.browser import Pages, Site, assert_clean
from support.patients import registered
from support.wearable import Place, WearableClient

SIZES = ("desktop", "phone")
SAY_SOUND = """
new MutationObserver((found) => {
  for (const one of found) console.log(`sound ${one.target.getAttribute('sound')}`);
}).observe(document, {subtree: true, attributeFilter: ['sound']});
"""


@pytest.fixture(scope="module")
def device(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WearableClient]:
    """A wearable that is on nobody."""
    nurse = site.clinic.of(Role.NURSE).caller
    ca: Path = tmp_path_factory.mktemp("device") / "ca.pem"
    ca.write_text(nurse.get("/wearables/authority.pem").body)
    made = nurse.post("/wearables", {"name": "3 床手环"}).body
    with WearableClient(Place(made["port"], ca), made["id"], made["password"]) as client:
        yield client


def test_an_alarm_shows_and_sounds_on_an_open_page(
    clinic_page: Pages, site: Site, device: WearableClient
) -> None:
    nurse = site.clinic.of(Role.NURSE).caller
    for alarm in nurse.get("/alarms/strip").body["ringing"]:  # of other tests
        nurse.post(f"/alarms/{alarm['id']}/acknowledge")
    page = clinic_page(Role.NURSE, "/account")
    page.add_init_script(SAY_SOUND)
    # Nothing else may look at the page before: to Chromium that is a touch.
    with page.expect_console_message(lambda said: said.text == "sound blocked"):
        page.goto("/account")  # it says so before anything rings
    strip = page.locator("lz-alarms")
    expect(page.get_by_role("button", name="开启声音")).to_be_visible()
    page.get_by_role("button", name="开启声音").click()
    expect(strip).to_have_attribute("sound", "on")

    device.send("danger", spo2=84, pulse=135, temperature=39.6)
    ringing = page.locator("[data-alarm]", has_text="3 床手环")
    expect(ringing).to_have_count(1)
    expect(ringing).to_contain_text("危急")
    expect(page.locator("[data-ringing=emergency]")).to_be_attached()
    assert_clean(page)

    ringing.get_by_label("备注").fill("已到床旁")
    with page.expect_event("requestfinished", lambda one: one.url.endswith("/acknowledge")):
        ringing.get_by_role("button", name="确认报警").click()
    expect(ringing).to_have_count(0)
    page.goto("/alarms")
    expect(page.get_by_role("table")).to_contain_text("已到床旁")
    assert_clean(page)


@pytest.mark.parametrize("size", SIZES)
def test_the_page_of_wearables(clinic_page: Pages, device: WearableClient, size: str) -> None:
    device.publish(b"not JSON")
    device.send(f"odd-{size}", pulse=80, spo2=250)
    page = clinic_page(Role.NURSE, "/wearables", size)
    card = page.locator(f'[data-device="{device.device}"]')
    expect(card).to_contain_text("已连接")
    card.locator("summary", has_text="不能使用的消息").click()
    expect(card).to_contain_text("数值不可信")
    assert_clean(page)
    touch(page)
    assert_clean(clinic_page(Role.NURSE, "/alarms", size))


def test_credentials_are_shown_once(clinic_page: Pages) -> None:
    page = clinic_page(Role.NURSE, "/wearables", language="en")
    page.get_by_label("Name of the device").fill("Band of bed 9")
    page.get_by_role("button", name="Add a device").click()
    expect(page.locator("#device-password")).to_have_text(re.compile("[a-z2-7]{24}"))
    expect(page.get_by_role("img")).to_be_visible()
    assert_clean(page)
    page.get_by_role("link", name="It is in the device").click()
    card = page.get_by_role("region", name="Band of bed 9")
    card.locator("summary", has_text="Shut out").click()
    card.get_by_role("button", name="Shut out").click()
    expect(page.get_by_role("region", name="Band of bed 9")).to_contain_text("shut out by")
    assert_clean(page)


@pytest.fixture(scope="module")
def patient(site: Site, device: WearableClient) -> str:
    """Zhang San, who wears it."""
    caller = site.clinic.of(Role.NURSE).caller
    known = registered(site.clinic)
    number = caller.get(f"/patients/{known}").body["patient"]["number"]
    wanted = {"device": device.device, "number": number, "second": "张三"}
    assert (reply := caller.post("/bindings", wanted)).status == 200, reply
    return known


@pytest.mark.parametrize("size", SIZES)
def test_the_monitor_is_live(
    clinic_page: Pages, device: WearableClient, patient: str, size: str
) -> None:
    page = clinic_page(Role.NURSE, f"/patients/{patient}/monitor", size)
    for number in range(5):
        device.send(f"live-{size}-{number}", pulse=70 + number, spo2=97, respiration=16)
    expect(page.locator("[data-parameter=pulse]")).to_contain_text("74")
    expect(page.locator("lz-vitals canvas")).to_be_visible()
    if size == SIZES[0]:  # nobody has entered anything yet
        expect(page.locator("[data-news2]")).to_contain_text("不完整")
    page.get_by_label("体温").fill("37.2")
    page.get_by_label("收缩压").fill("122")
    page.get_by_label("吸氧").fill("0")
    page.get_by_label("意识").select_option(label="清醒")
    page.get_by_role("button", name="保存").click()
    expect(page.locator('[data-news2="0"]')).to_be_visible()
    assert_clean(page)
    on_page = clinic_page(Role.NURSE, f"/patients/{patient}", size)
    expect(on_page.locator("[data-parameter=pulse]")).to_contain_text("74")


def test_the_expert_sees_the_same_at_the_hub(
    hub_page: Pages, site: Site, device: WearableClient, patient: str
) -> None:
    expert, admin = site.centre.of(Role.EXPERT), site.centre.of(Role.ADMIN)
    wanted = {"title": "chief", "departments": ["03.04"], "icd": ""}
    assert admin.caller.post(f"/experts/{expert.id}", wanted).status == 200
    doctor = site.clinic.of(Role.DOCTOR).caller
    asked = {"complaint": "胸闷并戴腕带", "department": "03.04", "ask": True, "consent": True,
             "consent_given_by": "张三"}  # fmt: skip
    page = hub_page(Role.EXPERT, "/inbox")
    reply = doctor.post(f"/patients/{patient}/consultations", asked)
    assert reply.status == 200, reply
    case = reply.body["id"]
    mine = page.get_by_role("article").filter(has_text="胸闷并戴腕带")
    expect(mine).to_be_visible()
    assert expert.caller.post(f"/cases/{case}/accept").status == 200
    page.goto(f"/cases/{case}")
    device.send("grave", spo2=85, pulse=128)
    expect(page.locator("[data-parameter=spo2]")).to_contain_text("85")
    expect(page.get_by_text("紧急").first).to_be_visible()
    expect(page.locator("lz-vitals canvas")).to_be_visible()
    assert_clean(page)
    stranger = site.centre.of(Role.ADMIN).caller
    assert stranger.get(f"/cases/{case}/vitals").status == 403
    assert expert.caller.get(f"/cases/{'0' * 32}/vitals").status == 404
    assert doctor.post(f"/consultations/{case}/cancel", {"reason": "好转"}).status == 200


def touch(page: Page) -> None:
    """Any touch turns the sound on."""
    page.get_by_role("heading").first.click()
    expect(page.locator("lz-alarms")).to_have_attribute("sound", "on")
