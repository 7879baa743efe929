"""What only the clinic's disk holds, in plain words, while the hub is away."""

import subprocess
from pathlib import Path

from playwright.sync_api import Browser, Page, expect
from pydicom.data import get_testdata_file

from lab import free_ports, lab, wait_until
from lianzhen_protocol.accounts import Role
from support.browser import CLINIC, Pages, assert_clean, assert_fits
from support.consoles import clinic_people
from support.lab_fixtures import notes, put_all
from support.modality import storescu

ALONE = "只存在于本机这块磁盘上"


def test_the_sync_page_says_what_only_this_disk_holds(browser: Browser) -> None:
    with lab() as made:
        hub = made.hub().start().wait()
        (dicom,) = free_ports(1)
        box = made.box(dicom_port=dicom).start()
        box.enrol(hub, CLINIC)
        people = clinic_people(box)
        people.of(Role.NURSE)
        pages = Pages(browser, people, "sync", "clinic")
        box.ask("modalities", "--admit", "CT1@127.0.0.1")
        wait_until("a box that holds nothing alone", box.drained)
        hub.kill()
        image = Path(str(get_testdata_file("CT_small.dcm")))
        assert storescu(dicom, [image]).good == [image]
        put_all(box, notes(40), "record.diagnostic")
        put_all(box, notes(2), "alarm.clinic")

        page = pages(Role.NURSE, "/", "phone")
        page.get_by_role("link", name=ALONE).click()
        says_alone(page)
        pages.picture(page, "sync-alone-phone")
        page.set_viewport_size({"width": 1280, "height": 800})
        page.get_by_role("button", name="English").click()
        expect(page.get_by_text("exist only on this box's disk")).to_be_visible()
        expect(page.get_by_text("Original images: 1 files")).to_be_visible()
        assert_fits(page)
        pages.picture(page, "sync-alone-desktop")
        terminal = subprocess.run(
            box.command("status", "--stalled", "0"), capture_output=True, text=True, check=False
        )
        assert terminal.returncode == 3
        assert "on this disk alone, and nowhere else" in terminal.stdout
        pages.close()


def says_alone(page: Page) -> None:
    """How much, of what, and what to do about it."""
    expect(page.get_by_text(ALONE)).to_be_visible()
    expect(page.get_by_text("影像原片：1 个文件")).to_be_visible()
    expect(page.get_by_text("报警：2 条")).to_be_visible()
    expect(page.get_by_text("请不要更换、清除或丢弃这台设备")).to_be_visible()
    assert_clean(page)
