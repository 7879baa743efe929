"""Pages of images in a browser: admitted by one click while the page is open, pictures shown."""

from pathlib import Path

import pytest
from playwright.sync_api import expect
from pydicom.data import get_testdata_file

from lab import wait_until
from lianzhen_protocol.accounts import Role
from support.browser import Pages, Site, assert_clean
from support.modality import association, series, storescu

SIZES = ("desktop", "phone")
SLICES = 7
"""By its length the stack is known: others send images to the same box."""


def stacks(site: Site) -> list[str]:
    """Ids of the studies that are this module's stack: one, or none yet."""
    studies = site.clinic.of(Role.DOCTOR).caller.get("/imaging").body["studies"]
    return [study["id"] for study in studies if study["stored"] == SLICES]


def test_a_stranger_appears_on_the_open_page_and_one_click_lets_it_in(
    clinic_page: Pages, site: Site, tmp_path: Path
) -> None:
    port = site.box.dicom_port
    page = clinic_page(Role.NURSE, "/modalities")
    expect(page.get_by_text("LIANZHEN")).to_be_visible()
    assert_clean(page)
    with association(port, "US-ROOM-2") as opened:
        assert opened is None
    row = page.get_by_role("row").filter(has_text="US-ROOM-2")
    expect(row).to_be_visible()
    assert_clean(page)
    row.get_by_role("button", name="允许接入").click()
    expect(page.get_by_role("row").filter(has_text="测试nurse.one")).to_be_visible()
    us = Path(str(get_testdata_file("examples_rgb_color.dcm")))
    files = [us, *series(tmp_path, SLICES)]
    assert storescu(port, files, title="US-ROOM-2").good == files
    doctor = site.clinic.of(Role.DOCTOR).caller
    wait_until("the stack at the clinic", lambda: bool(stacks(site)))
    (ct,) = stacks(site)

    def pictures() -> bool:
        images = doctor.get(f"/studies/{ct}").body["found"]["images"]
        return len(images) == SLICES and all(image["preview"] for image in images)

    wait_until("previews", pictures)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("path", ["/modalities", "/imaging"])
def test_lists_of_images_and_modalities(clinic_page: Pages, path: str, size: str) -> None:
    page = clinic_page(Role.DOCTOR, path, size)
    expect(page.get_by_role("table").first).to_be_visible()
    assert_clean(page)


@pytest.mark.parametrize("size", SIZES)
def test_images_at_the_hub_for_an_admin(hub_page: Pages, site: Site, size: str) -> None:
    admin = site.centre.of(Role.ADMIN).caller
    wait_until(
        "all images at the hub",
        lambda: (
            bool(rows := admin.get("/studies").body["rows"])
            and all(row["received"] == row["stored"] for row in rows)
        ),
    )
    assert_clean(hub_page(Role.ADMIN, "/studies", size))
    study = admin.get("/studies").body["rows"][0]["id"]
    page = hub_page(Role.ADMIN, f"/studies/{study}", size)
    expect(page.locator(".pane.here")).to_have_attribute("data-phase", "ready")
    assert_clean(page)
