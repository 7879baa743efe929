"""DICOM over TLS: dcmtk with a certificate of the box's, and everyone without one."""

import contextlib
import shutil
import socket
import ssl
import subprocess
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from lianzhen_edge.dicom import secure
from support.modality import DCMTK, series
from support.upper_layer import Scp, running


@pytest.fixture
def state(tmp_path: Path) -> Path:
    made = tmp_path / "state"
    made.mkdir()
    return made


@pytest.fixture
def node(tmp_path: Path, state: Path) -> Iterator[Scp]:
    with running(tmp_path, tls=partial(secure.context, state)) as found:
        yield found


def dcmtk(program: str, node: Scp, files: list[Path], *more: str, title: str = "CT1") -> int:
    """Its exit status; without ``files`` it has no certificate."""
    tls = ["+tls", str(files[0]), str(files[1])] if files else ["+tla"]
    anchor = ["+cf", str(files[2])] if files else ["-ic"]
    command = [str(DCMTK / program), *tls, *anchor, "-aet", title, "127.0.0.1", str(node.port)]
    return subprocess.run(
        [*command, *more], check=False, timeout=60, capture_output=True
    ).returncode


def test_dcmtk_sends_over_tls_with_a_certificate_of_the_boxs(
    node: Scp, state: Path, tmp_path: Path
) -> None:
    files = secure.issue(state, "CT1", tmp_path / "modality")
    assert files[0].stat().st_mode & 0o777 == 0o600
    assert dcmtk("echoscu", node, files) == 0
    sent = series(tmp_path, 3, side=512)
    assert dcmtk("storescu", node, files, *map(str, sent)) == 0
    assert len(node.kept()) == 3


def test_a_certificate_is_one_titles(node: Scp, state: Path, tmp_path: Path) -> None:
    files = secure.issue(state, "MR1", tmp_path / "modality")
    assert dcmtk("echoscu", node, files) != 0
    assert dcmtk("echoscu", node, files, title="MR1") != 0  # which is not admitted


def test_who_has_no_certificate_of_ours_says_nothing(
    node: Scp, state: Path, tmp_path: Path
) -> None:
    ours = secure.issue(state, "CT1", tmp_path / "modality")
    other = secure.issue(tmp_path / "other", "CT1", tmp_path / "stranger")
    shutil.copy(ours[2], other[2])
    assert dcmtk("echoscu", node, []) != 0
    assert dcmtk("echoscu", node, other) != 0
    with (
        socket.create_connection(("127.0.0.1", node.port), timeout=60) as plain,
        contextlib.suppress(ConnectionResetError),
    ):
        plain.sendall(b"\1\0\0\0\0\4")
        assert plain.recv(100)[:1] in (b"", b"\x15")  # closed, or TLS's own alert
    assert node.heard.told.empty()


def test_old_versions_of_tls_are_refused(node: Scp) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings(action="ignore"):
        context.minimum_version = ssl.TLSVersion.TLSv1_1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with (
        socket.create_connection(("127.0.0.1", node.port)) as plain,
        pytest.raises((ssl.SSLError, ConnectionError)),
    ):
        context.wrap_socket(plain)


@pytest.mark.parametrize("title", ["", "A" * 17, " CT1", "../x", "超声"])
def test_what_is_no_title_gets_no_certificate(state: Path, tmp_path: Path, title: str) -> None:
    with pytest.raises(secure.TitleUnfit):
        secure.issue(state, title, tmp_path / "modality")
