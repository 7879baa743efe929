"""Pages in a real Chromium: signed in as every role, at both sizes, looked at and listened to.

One hub and one box serve all browser tests of a session. The browser itself lives for a module:
Playwright's loop would be in the way of tests that run one of their own. Every page leaves a
picture in out/ (not in git). ``assert_clean`` is what each page must pass.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    Page,
    Playwright,
    expect,
    sync_playwright,
)

from lab import BoxProgram, HubProgram, free_ports, lab
from lianzhen_protocol.accounts import Role
from printers import Cups, Printer

from .consoles import People, clinic_people, hub_people

ROOT = Path(__file__).parents[2]
OUT = ROOT / "out"
AXE = ROOT / "web/node_modules/axe-core/axe.min.js"
CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-dev-shm-usage",  # a container's /dev/shm is 64 MB
    "--autoplay-policy=document-user-activation-required",  # what people's browsers do
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    *(["--no-sandbox"] if os.geteuid() == 0 else []),
]
SIZES = {"desktop": (1280, 800), "phone": (390, 844)}
CLINIC = "青山镇卫生院"
PATIENCE_MS = 60_000
"""How long a page may take says how busy the machine is."""

expect.set_options(timeout=PATIENCE_MS)


class Site(NamedTuple):
    """What the pages of a test session come from."""

    hub: HubProgram
    box: BoxProgram
    node: str
    clinic: People
    centre: People
    printer: Printer


class Heard(NamedTuple):
    """What a page wrote on its console."""

    errors: list[str]


_heard: dict[Page, Heard] = {}


def launch(driver: Playwright) -> Browser:
    """Debian's Chromium."""
    return driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)


@pytest.fixture(scope="session")
def site() -> Iterator[Site]:
    """A hub and a box of its own, enrolled and online, with a printer in the next room."""
    with lab() as made, Printer() as printer, Cups() as cups:
        queue = cups.start().add(printer.start())
        hub = made.hub().start().wait()
        dicom, device = free_ports(2)
        printing = {"print_server": cups.url, "print_queue": queue}
        box = made.box(dicom_port=dicom, device_port=device, triage_model=True, **printing).start()
        node = box.enrol(hub, CLINIC)
        yield Site(hub, box, node, clinic_people(box), hub_people(hub), printer)


@pytest.fixture(scope="module")
def driver() -> Iterator[Playwright]:
    """Playwright, for a module."""
    if not Path(CHROMIUM).exists():
        pytest.skip("chromium is not installed")
    with sync_playwright() as found:
        yield found


@pytest.fixture(scope="module")
def browser(driver: Playwright) -> Iterator[Browser]:
    """One Chromium for a module."""
    found = launch(driver)
    yield found
    found.close()


class Pages:
    """Opens pages of one console, each in a context of its own."""

    def __init__(self, browser: Browser, people: People, name: str, console: str) -> None:
        self._browser = browser
        self._people = people
        self._name = name
        self._console = console
        self._contexts: list[BrowserContext] = []
        self._pages: list[Page] = []
        self.address = f"https://127.0.0.1:{people.port}"

    def __call__(
        self, role: Role | None, path: str = "/", size: str = "desktop", language: str = "zh-CN"
    ) -> Page:
        """``path`` as somebody of ``role`` sees it; None is nobody."""
        width, height = SIZES[size]
        context = self._browser.new_context(
            viewport={"width": width, "height": height},
            ignore_https_errors=True,  # trust has a test of its own
            base_url=self.address,
            has_touch=size == "phone",
        )
        context.set_default_timeout(PATIENCE_MS)
        self._contexts.append(context)
        cookies = {"lz-language": language}
        if role is not None:
            cookies |= self._people.of(role).caller.cookies
        context.add_cookies(
            [{"name": key, "value": text, "url": self.address} for key, text in cookies.items()]
        )
        page = context.new_page()
        listen(page)
        self._pages.append(page)
        page.goto(path)
        return page

    def picture(self, page: Page, name: str) -> None:
        """Keep what a page looks like, in out/."""
        OUT.mkdir(exist_ok=True)
        page.screenshot(path=OUT / f"{self._console}-{_flat(name)}.png", full_page=True)

    def close(self) -> None:
        """Take the last pictures and close."""
        for number, page in enumerate(page for page in self._pages if not page.is_closed()):
            self.picture(page, f"{self._name}-{number}")
        for context in self._contexts:
            context.close()


def listen(page: Page) -> None:
    """Note what goes wrong on a page."""
    heard = _heard[page] = Heard([])

    def said(message: Any) -> None:
        aborted = message.text.endswith("net::ERR_ABORTED") and "/live" in message.text
        if message.type in {"error", "warning"} and not aborted:
            heard.errors.append(f"{message.text} {message.location.get('url', '')}")

    def failed(request: Any) -> None:
        if request.failure != "net::ERR_ABORTED":  # whoever goes to another page cuts the stream
            heard.errors.append(f"failed: {request.url} {request.failure}")

    page.on("console", said)
    page.on("pageerror", lambda error: heard.errors.append(str(error)))
    page.on("requestfailed", failed)


OpenPage = Callable[..., Page]


@pytest.fixture
def clinic_page(request: pytest.FixtureRequest, browser: Browser, site: Site) -> Iterator[Pages]:
    """``clinic_page(role, path, size, language)``: a page of the clinic's console."""
    pages = Pages(browser, site.clinic, request.node.name, "clinic")
    yield pages
    pages.close()


@pytest.fixture
def hub_page(request: pytest.FixtureRequest, browser: Browser, site: Site) -> Iterator[Pages]:
    """The same of the hub's console."""
    pages = Pages(browser, site.centre, request.node.name, "hub")
    yield pages
    pages.close()


def _flat(name: str) -> str:
    return "".join(sign if sign.isalnum() else "-" for sign in name)


def assert_clean(page: Page, *, silent: bool = True) -> None:
    """Nothing serious for axe, silence on the console, nothing wider than the screen, and no
    control too small for a thumb. Not ``silent``: a problem page, of which the console says so.
    """
    assert_accessible(page)
    assert_fits(page)
    said = _heard[page].errors[:]
    _heard[page].errors.clear()
    assert said == [] or not silent, page.url


def assert_accessible(page: Page) -> None:
    """Nothing serious for axe."""
    page.evaluate(AXE.read_text(encoding="utf-8") + ";undefined")
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    serious = [
        f"{one['id']}: {one['nodes'][0]['html'][:160]}"
        for one in found["violations"]
        if one["impact"] in {"serious", "critical"}
    ]
    assert serious == [], page.url


def assert_fits(page: Page) -> None:
    """Nothing wider than the screen, and no control too small for a thumb."""
    wide = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    beyond = page.evaluate(
        """[...document.querySelectorAll('body *')]
        .filter((one) => one.getBoundingClientRect().right > window.innerWidth)
        .map((one) => one.outerHTML.slice(0, 160)).slice(0, 2)"""
    )
    assert wide <= 0, f"{page.url} is {wide} px wider than the screen: {beyond}"
    small = page.evaluate(
        """[...document.querySelectorAll('button, .button, input:not([type=hidden]), select')]
        .filter((one) => one.checkVisibility())
        .map((one) => one.closest('label.check') ?? one)
        .filter((one) => one.getBoundingClientRect().height < 40)
        .map((one) => one.outerHTML.slice(0, 120))"""
    )
    assert small == [], page.url
