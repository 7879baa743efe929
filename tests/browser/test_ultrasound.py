"""An ultrasound's study in a browser: its cine plays in the viewer, its report is a table."""

import zipfile
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from lab import wait_until
from lianzhen_protocol.accounts import Role
from support.browser import Pages, Site, assert_clean
from support.modality import association, storescu, ultrasound_cine, ultrasound_report

MODALITY, FRAMES = "US-CINE", 24


@pytest.fixture(scope="module")
def study(site: Site, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Key of a study with one cine and its report, all of it at the hub."""
    folder, port = tmp_path_factory.mktemp("ultrasound"), site.box.dicom_port
    clinic, hub = site.clinic.of(Role.DOCTOR).caller, site.centre.of(Role.ADMIN).caller
    with association(port, MODALITY):
        pass

    def others() -> dict[str, str]:
        rows = clinic.get("/modalities").body["others"]
        return {row["title"]: row["id"] for row in rows}

    wait_until("it is shown", lambda: MODALITY in others())
    assert clinic.post(f"/modalities/{others()[MODALITY]}/admit").status == 200
    cine, report = ultrasound_cine(FRAMES), ultrasound_report()
    cine.StudyInstanceUID, cine.StudyDescription = report.StudyInstanceUID, "心脏超声"
    report.StudyDescription = "心脏超声"
    paths: list[Path] = []
    for number, image in enumerate((cine, report)):
        paths.append(folder / f"{number}.dcm")
        image.save_as(paths[-1], enforce_file_format=True)
    assert storescu(port, paths, title=MODALITY).good == paths

    def found() -> list[str]:
        studies = clinic.get("/imaging").body["studies"]
        return [one["id"] for one in studies if one["description"] == "心脏超声"]

    wait_until("the study", lambda: bool(found()))

    def whole() -> bool:
        shown = hub.get(f"/studies/{found()[0]}").body.get("found", {})
        return shown.get("arrived") == 2 and any(one["preview"] for one in shown["images"])

    wait_until("all of it at the hub", whole)
    return found()[0]


def watched(page: Page) -> None:
    assert_clean(page)
    row = page.get_by_role("row").filter(has_text="左室舒张末期内径")
    expect(row).to_contain_text("47.5")
    expect(row).to_contain_text("mm")
    expect(page.get_by_text("图中可能含患者文字")).to_be_visible()
    shown = page.locator(".travel output")
    expect(shown).to_have_text(f"13 / {FRAMES}")
    page.get_by_role("button", name="播放").click()
    expect(shown).not_to_have_text(f"13 / {FRAMES}")  # it moves
    page.get_by_role("button", name="暂停").click()
    page.get_by_role("slider").press("Home")
    expect(shown).to_have_text(f"1 / {FRAMES}")
    expect(page.locator(".pane").first).to_have_attribute("data-quality", "sent")


def test_at_the_clinic(clinic_page: Pages, study: str) -> None:
    watched(clinic_page(Role.DOCTOR, f"/studies/{study}"))


def test_at_the_hub_on_a_telephone(hub_page: Pages, study: str) -> None:
    watched(hub_page(Role.ADMIN, f"/studies/{study}", "phone"))


def test_the_form_for_teaching_says_what_stays_out(hub_page: Pages, study: str) -> None:
    page = hub_page(Role.ADMIN, f"/studies/{study}")
    page.get_by_role("link", name="教学用去标识导出").click()
    expect(page.get_by_text("有 1 幅图像的画面中可能写有患者姓名")).to_be_visible()
    assert_clean(page)
    page.get_by_label("我已逐幅看过这些图像").check()
    with page.expect_download() as got:
        page.get_by_role("button", name="导出").click()
    with zipfile.ZipFile(got.value.path()) as archive:
        assert archive.namelist() == ["images/00001.dcm", "README.txt"]
