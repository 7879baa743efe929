"""The viewer in a browser, on both consoles: read, measured, compared, and marked for the report.

The pictures are of a phantom (support/phantom.py). A place in an image is one on the screen by the
pane's own geometry: an image is fitted to its pane, and is zoomed and moved nowhere here.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from playwright.sync_api import Locator, Page, expect
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid

from lab import wait_until
from lianzhen_protocol.accounts import Role
from support.browser import Pages, Site, assert_clean
from support.modality import storescu
from support.patients import registered
from support.phantom import ROD, ROD_HU, SIDE, SPACING_MM, slices

SLICES, OLD_SLICES = 9, 5
NOW, BEFORE = "20261124", "20250301"


class Seen(NamedTuple):
    """Studies at the box, and the case that the newer one was sent along with."""

    now: str
    before: str
    ultrasound: str
    case: str


@pytest.fixture(scope="module")
def seen(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """A patient's two CTs and an ultrasound have come, and an expert has the case."""
    folder = tmp_path_factory.mktemp("viewer")
    patient = registered(site.clinic)
    nurse, doctor = (site.clinic.of(role).caller for role in (Role.NURSE, Role.DOCTOR))
    number = nurse.get(f"/patients/{patient}").body["patient"]["number"]
    site.box.ask("modalities", "--admit", "VIEWED@127.0.0.1")
    files = slices(folder, SLICES, number, NOW) + slices(folder, OLD_SLICES, number, BEFORE)
    files.append(ultrasound(folder / "us.dcm", number))
    assert storescu(site.box.dicom_port, files, title="VIEWED").good == files

    def studies() -> dict[str, str]:
        shown = doctor.get(f"/patients/{patient}/imaging").body["found"]
        found = [one["study"] for one in shown]
        return {study["modalities"][0] + study["date"]: study["id"] for study in found}

    wait_until("all studies", lambda: len(studies()) == 3)
    known = studies()
    ids = known[f"CT{NOW}"], known[f"CT{BEFORE}"], known["US20261120"]

    def previews() -> int:
        shown = [doctor.get(f"/studies/{study}").body["found"]["images"] for study in ids]
        return sum(image["preview"] > 0 for images in shown for image in images)

    wait_until("previews", lambda: previews() == len(files))
    return Seen(*ids, case=taken(site, patient, ids))


@pytest.fixture(autouse=True)
def patience() -> Iterator[None]:
    """How soon something is seen says how busy the machine is."""
    expect.set_options(timeout=60_000)
    yield
    expect.set_options(timeout=5_000)


def ultrasound(path: Path, number: str) -> Path:
    image = dcmread(str(get_testdata_file("examples_rgb_color.dcm")))
    image.SpecificCharacterSet, image.PatientName = "ISO_IR 192", "张^三"
    image.PatientID, image.PatientBirthDate, image.PatientSex = number, "19491231", "F"
    image.StudyInstanceUID, image.SeriesInstanceUID = generate_uid(), generate_uid()
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    image.StudyDate = "20261120"
    image.save_as(path, enforce_file_format=True)
    return path


def taken(site: Site, patient: str, studies: tuple[str, ...]) -> str:
    """A doctor asks with these studies, and the expert takes the case."""
    expert, admin = site.centre.of(Role.EXPERT), site.centre.of(Role.ADMIN)
    wanted = {"title": "chief", "departments": ["32"], "icd": "J18"}
    assert admin.caller.post(f"/experts/{expert.id}", wanted).status == 200
    ask = {
        "complaint": "咳嗽两周",
        "department": "32",
        "icd": "J18.9",
        "ask": True,
        "consent": True,
        "consent_given_by": "张三",
        "studies": list(studies),
    }
    doctor = site.clinic.of(Role.DOCTOR).caller
    reply = doctor.post(f"/patients/{patient}/consultations", ask)
    assert reply.status == 200, reply
    case = str(reply.body["id"])

    def accepted() -> bool:
        expert.caller.get("/inbox")  # who looks is online
        return expert.caller.post(f"/cases/{case}/accept").status == 200

    wait_until("a case that the expert took", accepted)
    return case


def opened(page: Page, name: str = "here") -> Locator:
    """The pane, once the engine has drawn in it."""
    pane = page.locator(f".pane.{name}")
    expect(pane).to_have_attribute("data-phase", "ready")
    expect(pane.locator("canvas")).to_have_count(1)
    return pane


def place(pane: Locator, column: float, row: float) -> tuple[float, float]:
    """Where a place of the image, in pixels from its corner, is on the screen."""
    pane.scroll_into_view_if_needed()
    box = pane.bounding_box()
    assert box
    scale = min(box["width"], box["height"]) / SIDE
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    return middle[0] + (column - SIDE / 2) * scale, middle[1] + (row - SIDE / 2) * scale


def drag(page: Page, pane: Locator, *way: tuple[float, float]) -> None:
    """With the left button, from the first place to the last by way of all others."""
    first, *others = (place(pane, *each) for each in way)
    page.mouse.move(*first)
    page.mouse.down()
    for each in others:
        page.mouse.move(*each)
    page.mouse.up()


def grey(pane: Locator, column: float, row: float) -> int:
    """What is painted at a place of the image."""
    found = pane.locator("canvas").evaluate(
        """(canvas, [column, row, side]) => {
          const scale = Math.min(canvas.width, canvas.height) / side;
          const x = canvas.width / 2 + (column - side / 2) * scale;
          const y = canvas.height / 2 + (row - side / 2) * scale;
          const copy = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true });
          copy.drawImage(canvas, -Math.floor(x), -Math.floor(y));
          return copy.getImageData(0, 0, 1, 1).data[0];
        }""",
        [column, row, SIDE],
    )
    return int(found)


def painted(pane: Locator, column: float, row: float, least: int, most: int) -> None:
    wait_until("a grey", lambda: least <= grey(pane, column, row) <= most)


@pytest.mark.parametrize("size", ["desktop", "phone"])
def test_a_study_is_paged_through_and_looked_at_through_windows(
    clinic_page: Pages, seen: Seen, size: str
) -> None:
    page = clinic_page(Role.DOCTOR, f"/studies/{seen.now}", size)
    pane, port = opened(page), page.get_by_role("application")
    expect(page.get_by_text(f"5 / {SLICES}", exact=True)).to_be_visible()
    painted(pane, 90, 64, 250, 255)  # bone is white through the modality's window
    painted(pane, 64, 64, 0, 3)  # and lung black
    page.get_by_role("button", name="肺窗").click()
    painted(pane, 64, 64, 70, 100)
    expect(page.get_by_role("button", name="肺窗")).to_have_attribute("aria-pressed", "true")
    port.press("ArrowDown")
    expect(page.get_by_text(f"6 / {SLICES}", exact=True)).to_be_visible()
    painted(pane, 64, 64, 70, 100)  # the window stays
    port.press("Home")
    expect(page.get_by_text(f"1 / {SLICES}", exact=True)).to_be_visible()
    port.press("1")
    painted(pane, 64, 64, 0, 3)
    page.get_by_role("slider").press("ArrowRight")
    expect(page.get_by_text(f"2 / {SLICES}", exact=True)).to_be_visible()
    page.get_by_role("button", name="播放").click()
    expect(page.locator(".travel output")).not_to_have_text(f"2 / {SLICES}")
    page.get_by_role("button", name="暂停").click()
    assert_clean(page)


def sent(pane: Locator) -> None:
    """The frame as it was sent has taken the preview's place."""
    expect(pane).to_have_attribute("data-quality", "sent")
    expect(pane.get_by_text("无损原图")).to_be_visible()


@pytest.mark.parametrize("console", ["clinic", "hub"])
def test_lengths_are_in_millimetres_and_values_in_hounsfield_units(
    clinic_page: Pages, hub_page: Pages, seen: Seen, console: str
) -> None:
    path = f"/studies/{seen.now}"
    on_hub = console == "hub"
    page = hub_page(Role.EXPERT, path) if on_hub else clinic_page(Role.DOCTOR, path)
    pane = opened(page)
    sent(pane)
    page.get_by_role("button", name="长度").click()
    drag(page, pane, (44, 30), (64, 30), (84, 30))
    measured = page.get_by_role("region", name="测量")
    (line,) = measured.get_by_text(re.compile("mm$")).all_inner_texts()
    assert abs(float(line.removesuffix(" mm")) - 40 * SPACING_MM) < 0.8  # the pointer's own pixel
    page.get_by_role("button", name="椭圆 ROI").click()
    column, row, radius = ROD
    drag(page, pane, (column, row), (column + 4, row + 4), (column + radius / 2, row + radius / 2))
    slice_five = f"{ROD_HU + 4}.0 ± 0.0 HU"
    expect(measured.get_by_text(slice_five)).to_be_visible()
    area = re.search(r"(\d+) mm²", measured.inner_text())
    assert area
    assert abs(float(area[1]) / (3.1416 * (radius / 2 * SPACING_MM) ** 2) - 1) < 0.25
    assert_clean(page)


def test_wheel_zoom_and_angle(clinic_page: Pages, seen: Seen) -> None:
    page = clinic_page(Role.DOCTOR, f"/studies/{seen.now}", language="en")
    pane = opened(page)
    page.mouse.move(*place(pane, 64, 64))
    page.mouse.wheel(0, 120)
    expect(page.get_by_text(f"6 / {SLICES}", exact=True)).to_be_visible()
    page.get_by_role("button", name="Angle").click()
    drag(page, pane, (64, 40), (64, 60), (64, 80))
    page.mouse.move(*place(pane, 80, 80))
    page.mouse.move(*place(pane, 104, 80))
    page.mouse.down()
    page.mouse.up()
    expect(page.get_by_role("region", name="Measurements")).to_contain_text("90.0°")
    before = pane.get_by_text("Zoom").inner_text()
    page.get_by_role("button", name="Zoom in").click()
    expect(pane.get_by_text("Zoom")).not_to_have_text(before)
    page.get_by_role("button", name="Reset").click()
    expect(pane.get_by_text(before.splitlines()[-1])).to_be_visible()
    assert_clean(page)


def test_a_prior_study_beside_it_follows(clinic_page: Pages, seen: Seen) -> None:
    page = clinic_page(Role.DOCTOR, f"/studies/{seen.now}")
    opened(page)
    page.get_by_role("button", name="肺窗").click()
    page.get_by_label("对照既往检查").select_option(seen.before)
    prior = opened(page, "prior")
    painted(prior, 64, 64, 70, 100)
    page.get_by_role("application").first.press("Home")
    expect(prior.get_by_text(f"第 1 / {OLD_SLICES} 幅")).to_be_visible()
    page.get_by_role("application").first.press("End")
    expect(prior.get_by_text(f"第 {OLD_SLICES} / {OLD_SLICES} 幅")).to_be_visible()
    page.get_by_label("联动").uncheck()
    page.get_by_role("application").first.press("Home")
    expect(page.get_by_text(f"1 / {SLICES}", exact=True)).to_be_visible()
    expect(prior.get_by_text(f"第 {OLD_SLICES} / {OLD_SLICES} 幅")).to_be_visible()
    assert_clean(page)


@pytest.mark.parametrize("size", ["desktop", "phone"])
def test_an_ultrasound_is_in_colour(clinic_page: Pages, seen: Seen, size: str) -> None:
    page = clinic_page(Role.DOCTOR, f"/studies/{seen.ultrasound}", size)
    pane = opened(page)

    def colours() -> bool:
        return bool(
            pane.locator("canvas").evaluate(
                """(canvas) => {
                  const {width, height} = canvas;
                  const copy = new OffscreenCanvas(width, height);
                  const context = copy.getContext('2d', { willReadFrequently: true });
                  context.drawImage(canvas, 0, 0);
                  const {data} = context.getImageData(0, 0, width, height);
                  let found = 0;
                  for (let at = 0; at < data.length; at += 4) {
                    found += Math.abs(data[at] - data[at + 2]) > 60 ? 1 : 0;
                  }
                  return found > 100;
                }"""
            )
        )

    wait_until("colours", colours)
    expect(page.get_by_role("button", name="肺窗")).to_have_count(0)
    assert_clean(page)


def test_key_images_go_into_the_report_and_are_seen_on_both_sides(
    hub_page: Pages, clinic_page: Pages, site: Site, seen: Seen
) -> None:
    clinic = clinic_page(Role.DOCTOR, f"/studies/{seen.now}")
    opened(clinic)
    clinic.get_by_role("application").press("Home")
    clinic.get_by_role("button", name="标为关键图像").click()
    keys = clinic.get_by_role("region", name="关键图像")
    expect(keys.get_by_role("button", name="CT 序列 1 图像 1", exact=True)).to_be_visible()

    page = hub_page(Role.EXPERT, f"/studies/{seen.now}")
    opened(page)
    keys = page.get_by_role("region", name="关键图像")
    expect(keys.get_by_role("button", name="CT 序列 1 图像 1", exact=True)).to_be_visible()
    page.get_by_role("application").press("End")
    page.get_by_role("application").press("k")
    last = f"CT 序列 1 图像 {SLICES}"
    expect(keys.get_by_role("button", name=last, exact=True)).to_be_visible()
    assert_clean(page)
    page.get_by_role("application").press("Home")
    keys.get_by_role("button", name=last, exact=True).click()
    expect(page.get_by_text(f"{SLICES} / {SLICES}", exact=True)).to_be_visible()

    page.goto(f"/cases/{seen.case}/opinion")
    expect(page.get_by_text(f"CT 2026-11-24 序列 1 图像 {SLICES}")).to_be_visible()
    expect(page.get_by_text("图像 1", exact=True)).to_have_count(0)  # that was the clinic's
    expect(
        clinic.get_by_role("region", name="关键图像").get_by_role("button", name=last, exact=True)
    ).to_be_visible()  # by the live stream
    assert_clean(clinic)
