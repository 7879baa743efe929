"""The page of devices: a modality that dcmtk plays is set up and called back, and what is wrong is
said in words that a nurse can act on."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from lab import free_ports, wait_until
from lianzhen_protocol.accounts import Role
from support.browser import Pages, assert_clean
from support.modality import DCMTK

TITLE = "CT-ROOM-1"


@pytest.fixture
def port() -> int:
    return free_ports(1)[0]


@pytest.fixture
def modality(tmp_path: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """dcmtk, which answers an echo."""
    command = [str(DCMTK / "storescp"), "-aet", TITLE, "-od", str(tmp_path), str(port)]
    with subprocess.Popen(command) as running:
        echo = [str(DCMTK / "echoscu"), "127.0.0.1", str(port)]
        wait_until("it listens", lambda: subprocess.run(echo, capture_output=True).returncode == 0)
        yield running
        running.kill()


def test_a_device_is_set_up_and_called_back(
    clinic_page: Pages, port: int, modality: subprocess.Popen[bytes]
) -> None:
    page = clinic_page(Role.NURSE, "/modalities")
    page.get_by_label("AE 标题").fill(TITLE)
    page.get_by_label("地址").fill("127.0.0.1")
    page.get_by_role("button", name="允许接入").last.click()
    row = page.get_by_role("row").filter(has_text=TITLE)
    row.get_by_role("button", name="测试").click()
    expect(row).to_contain_text("请先在“更改”中填写设备的监听端口")
    row.locator("summary").filter(has_text="更改").click()
    row.get_by_label("设备的监听端口").fill(str(port))
    row.get_by_role("button", name="更改").click()
    expect(row.get_by_text(str(port))).to_be_visible()
    row.get_by_role("button", name="测试").click()
    expect(row).to_contain_text("设备有应答")
    modality.kill()
    modality.wait()
    row.get_by_role("button", name="测试").click()
    expect(row).to_contain_text(f"127.0.0.1 在线，但端口 {port} 没有 DICOM 服务")
    assert_clean(page)
