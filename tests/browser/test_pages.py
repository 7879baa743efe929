"""Every page as people see it; signing in and accounts, done by hand."""

import re
from collections.abc import Sized
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, Request, Route, expect

from lab import wait_until
from lianzhen_protocol.accounts import Role
from support.browser import Pages, Site, assert_accessible, assert_clean, assert_fits
from support.patients import registered
from support.routes import AT_THE_CLINIC, AT_THE_HUB, clinic_routes, hub_routes, pages

BY_NIGHT = {"/", "/staff", "/inbox", "/alarms"}
_looked_at: set[str] = set()


def look_through(pages: Pages, role: Role, paths: list[str]) -> None:
    """Each page on a desk by day, and on a telephone by night; what others share, once."""
    assert paths
    page = pages(role, "/account")
    for path in paths:
        if (at := pages.address + path) in _looked_at and path != "/":
            continue
        _looked_at.add(at)
        page.set_viewport_size({"width": 1280, "height": 800})
        page.emulate_media(color_scheme="light")
        answer = page.goto(path)
        assert answer is not None
        if "<!doctype html>" not in answer.text():
            continue  # a fragment, which its page shows
        assert page.locator("html").get_attribute("lang") == "zh-CN"
        # some are about a patient or an expert that is not there yet
        assert_clean(page, silent=answer.status == 200)
        assert_one_line(page)
        pages.picture(page, f"{role}{path}-desktop")
        page.set_viewport_size({"width": 390, "height": 844})
        page.emulate_media(color_scheme="dark")
        assert_fits(page)
        assert_one_line(page)
        if path in BY_NIGHT:
            assert_accessible(page)
        pages.picture(page, f"{role}{path}-phone")


def test_pages_of_one_thing(clinic_page: Pages, hub_page: Pages, site: Site) -> None:
    """Pages that are about somebody or something, in English; other tests use them in Chinese."""
    nurse = site.clinic.of(Role.NURSE).caller
    patient = registered(site.clinic)
    nurse.post(f"/patients/{patient}/vitals", {"pulse": 88, "spo2": 95, "respiration": 16})
    device = nurse.post("/wearables", {"name": "Band 9"}).body["id"]
    number = nurse.get(f"/patients/{patient}").body["patient"]["number"]
    worn = {"device": device, "number": number, "second": "19491231"}
    binding = nurse.post("/bindings", worn).body["id"]
    parts = ("", "/monitor", "/consultations/new")
    clinic = [*(f"/patients/{patient}{part}" for part in parts), f"/bindings/{binding}"]
    look_closely(clinic_page(Role.DOCTOR, "/account", language="en"), clinic)
    admin = clinic_page(Role.ADMIN, "/account", language="en")
    look_closely(admin, [f"/staff/{site.clinic.of(Role.NURSE).id}"])
    wait_until(
        "the patient at the hub",
        lambda: site.centre.of(Role.ADMIN).caller.get(f"/patients/{patient}").status == 200,
    )
    look_closely(hub_page(Role.ADMIN, "/account", language="en"), [f"/patients/{patient}"])


def test_a_double_click_is_one(clinic_page: Pages, site: Site) -> None:
    nurse = site.clinic.of(Role.NURSE).caller
    before = len(nurse.get("/patients").body["patients"])
    page = clinic_page(Role.NURSE, "/patients")
    page.get_by_role("button", name="身份不明，先登记").dblclick()
    page.wait_for_url(re.compile(r"/patients/[0-9a-f]{32}$"))
    assert len(nurse.get("/patients").body["patients"]) == before + 1


def look_closely(page: Page, paths: list[str]) -> None:
    for path in paths:
        page.set_viewport_size({"width": 1280, "height": 800})
        answer = page.goto(path)
        assert answer is not None
        assert answer.status == 200, path
        assert page.locator("html").get_attribute("lang") == "en"
        assert_clean(page)
        page.set_viewport_size({"width": 390, "height": 844})
        assert_fits(page)
        assert_one_line(page)


def assert_one_line(page: Page) -> None:
    """The head of a page, menu and all: what is below it is in sight."""
    box = page.locator("header.top").bounding_box()
    assert box is not None
    assert box["height"] < 70, page.url


@pytest.mark.parametrize("role", AT_THE_CLINIC)
def test_every_page_of_the_clinic(clinic_page: Pages, tmp_path: Path, role: Role) -> None:
    look_through(clinic_page, role, pages(clinic_routes(tmp_path), role))


@pytest.mark.parametrize("role", AT_THE_HUB)
def test_every_page_of_the_hub(hub_page: Pages, tmp_path: Path, role: Role) -> None:
    look_through(hub_page, role, pages(hub_routes(tmp_path), role))


@pytest.mark.parametrize("size", ["desktop", "phone"])
def test_nobody_is_led_to_the_door_and_back(clinic_page: Pages, site: Site, size: str) -> None:
    nurse = site.clinic.of(Role.NURSE)
    page = clinic_page(None, "/account", size)
    expect(page).to_have_url(f"{clinic_page.address}/login?next=/account")
    assert_clean(page)
    page.get_by_label("用户名").fill(nurse.login)
    page.get_by_label("密码").fill("not this one, no")
    page.get_by_role("button", name="登录").click()
    expect(page.get_by_role("alert")).to_have_text("用户名、密码或验证码不正确。")
    page.get_by_label("用户名").fill(nurse.login)
    page.get_by_label("密码").fill(nurse.password)
    page.get_by_role("button", name="登录").click()
    expect(page).to_have_url(f"{clinic_page.address}/account")


def test_the_language_is_one_click_away(clinic_page: Pages) -> None:
    page = clinic_page(Role.NURSE, "/account", "phone")
    page.get_by_role("button", name="English").click()
    expect(page.locator("html")).to_have_attribute("lang", "en")
    expect(page.get_by_role("link", name="Change password")).to_be_visible()
    assert_clean(page)


def test_the_menu_in_english_on_a_desk_and_on_a_telephone(
    clinic_page: Pages, hub_page: Pages
) -> None:
    for shown, role in ((clinic_page, Role.NURSE), (hub_page, Role.ADMIN)):
        page = shown(role, "/", language="en")
        assert_one_line(page)
        inline = page.get_by_role("navigation").get_by_role("link")
        before = inline.count()
        page.get_by_role("navigation").get_by_text("More").click()
        assert inline.count() > before
        page.get_by_role("main").click(position={"x": 5, "y": 5})
        assert inline.count() == before  # it closes when one goes on
        page.set_viewport_size({"width": 390, "height": 844})
        assert_one_line(page)
        page.get_by_text("Menu", exact=True).click()
        expect(page.get_by_role("button", name="Sign out")).to_be_visible()
        assert_fits(page)
        assert_accessible(page)


def test_an_admin_hands_a_password_over(clinic_page: Pages) -> None:
    page = clinic_page(Role.ADMIN, "/staff/new", language="en")
    page.get_by_label("Login").fill("wang")
    page.get_by_label("Name", exact=True).fill("王医生")
    page.get_by_label("Doctor").check()
    page.get_by_role("button", name="Make the account").click()
    expect(page.get_by_text("Hand it over")).to_be_visible()
    assert_clean(page)
    page.get_by_role("link", name="People and accounts").last.click()
    page.get_by_role("link", name="wang").click()
    expect(page.get_by_role("heading", name="王医生")).to_be_visible()
    assert_clean(page)


def test_many_pages_share_one_stream(clinic_page: Pages, site: Site) -> None:
    """A browser opens six connections to a host: the seventh page with a stream would hang."""
    first = clinic_page(Role.PHARMACIST, "/account")  # who has no live page
    context = first.context
    streams: list[str] = []

    def count(request: Request) -> None:
        if urlsplit(request.url).path == "/live":
            streams.append(request.url)

    context.on("request", count)
    cookies = site.clinic.of(Role.NURSE).caller.cookies
    address = clinic_page.address
    context.add_cookies(
        [{"name": key, "value": text, "url": address} for key, text in cookies.items()]
    )
    first.goto("/consultations")
    wait_until("a stream", lambda: turn(first, streams, 1))
    others = [context.new_page() for _ in range(8)]
    for page in others:
        page.goto("/consultations")
        expect(page.get_by_role("heading", level=1)).to_be_visible()
    assert len(streams) == 1
    first.close()  # it had the stream; another page takes over
    wait_until("a page that takes over", lambda: turn(others[0], streams, 2))


def test_a_page_that_joins_late_has_missed_nothing(clinic_page: Pages, site: Site) -> None:
    first = clinic_page(Role.NURSE, "/patients")
    expect(first.get_by_role("heading", level=1)).to_be_visible()
    late = first.context.new_page()
    held: list[Route] = []
    late.route("**/live-*.js", lambda route: held.append(route))
    late.goto("/patients", wait_until="commit")
    wait_until("the page is made", lambda: late.locator("main").count() == 1)
    wait_until("its script is on the way", lambda: turn(late, held, 1))
    made = site.clinic.of(Role.NURSE).caller.post("/patients/temporary").body
    link = f"a[href='/patients/{made['id']}']"
    expect(first.locator(link).first).to_be_attached()  # it is told, and no longer on its way
    expect(late.locator(link)).to_have_count(0)
    for route in held:
        route.continue_()
    expect(late.locator(link).first).to_be_attached()


def turn(page: Page, streams: Sized, wanted: int) -> bool:
    """Let Playwright hear what happened meanwhile."""
    page.evaluate("1")
    return len(streams) >= wanted
