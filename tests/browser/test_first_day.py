"""A clinic's first day, in a browser: from the carton to the first administrator at work."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from lab import BoxProgram, lab
from support.browser import Site, assert_clean, listen
from support.consoles import code_of

PASSWORD = "nine lives of a cat"


@pytest.fixture
def blank() -> Iterator[BoxProgram]:
    with lab() as made:
        yield made.box("BOX-9").start().wait()


@pytest.fixture
def page(browser: Browser, blank: BoxProgram) -> Iterator[Page]:
    context = browser.new_context(
        viewport={"width": 390, "height": 844},
        ignore_https_errors=True,
        base_url=f"https://127.0.0.1:{blank.console_port}",
    )
    made = context.new_page()
    listen(made)
    yield made
    context.close()


def test_from_the_carton_to_work(page: Page, site: Site, blank: BoxProgram) -> None:
    page.goto(f"http://127.0.0.1:{blank.setup_port}/")
    expect(page.locator("p.code")).to_have_text(blank.status()["browser_fingerprint"])
    assert_clean(page)
    page.get_by_role("link", name="打开诊室页面").click()
    expect(page).to_have_url(f"https://127.0.0.1:{blank.console_port}/setup?next=/")
    assert_clean(page)
    page.get_by_label("登记凭证").fill("lianzhen:claim?hub=https://x")
    page.get_by_role("button", name="登记").click()
    expect(page.get_by_role("alert")).to_contain_text("cut short")
    assert_clean(page, silent=False)

    claim = site.hub.ask("claim", "BOX-9", "--clinic", "白水乡卫生院", "--text")
    page.get_by_label("登记凭证").fill(claim)
    page.get_by_role("button", name="登记").click()
    expect(page.get_by_text("白水乡卫生院").first).to_be_visible()
    assert_clean(page)
    page.get_by_label("登记凭证").fill(claim)
    page.get_by_label("用户名").fill("bai")
    page.get_by_label("姓名").fill("白院长")
    page.get_by_label("新密码", exact=False).first.fill(PASSWORD)
    page.get_by_label("再输入一次").fill(PASSWORD)
    page.get_by_role("button", name="建立管理员账号").click()

    expect(page).to_have_url(f"https://127.0.0.1:{blank.console_port}/account/second")
    assert_clean(page)
    page.get_by_text("无法扫码").click()
    page.get_by_label("验证码").fill(code_of(page.locator("p.code").inner_text()))
    page.get_by_role("button", name="确认").click()
    expect(page.get_by_role("heading", name="恢复码")).to_be_visible()
    expect(page.locator("li.code")).to_have_count(8)
    assert_clean(page)
    page.get_by_role("link", name="我已保管好").click()
    page.get_by_role("link", name="人员与账号").first.click()
    expect(page.get_by_role("link", name="bai")).to_be_visible()
    assert_clean(page)
