"""The pages of signing in, accounts and fleet, as people see them: both sizes, both languages."""

import pytest
from playwright.sync_api import expect

from lianzhen_protocol.accounts import Role
from support.browser import Pages, Site, assert_clean

SIZES = ("desktop", "phone")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("path", ["/", "/staff", "/staff/new", "/account", "/account/second"])
def test_pages_of_a_clinics_admin(clinic_page: Pages, path: str, size: str) -> None:
    page = clinic_page(Role.ADMIN, path, size)
    assert page.locator("html").get_attribute("lang") == "zh-CN"
    assert_clean(page)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("path", ["/", "/fleet", "/notices", "/quarantine", "/staff"])
def test_pages_of_the_hubs_admin(hub_page: Pages, path: str, size: str) -> None:
    assert_clean(hub_page(Role.ADMIN, path, size))


@pytest.mark.parametrize("size", SIZES)
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
