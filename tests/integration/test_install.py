"""The edge on a machine that has only what the [edge] extra brings."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from lab import free_ports, wait_until

ROOT = Path(__file__).parents[2]
OFFLINE = ("NewConnectionError", "Temporary failure in name resolution", "ConnectTimeoutError")
IMPORT_ALL = """
import importlib, pkgutil, sys
import lianzhen_edge.main
names = [m.name for m in pkgutil.walk_packages(lianzhen_edge.__path__, "lianzhen_edge.")]
for name in names:
    if not name.endswith(".__main__"):
        importlib.import_module(name)
assert "lianzhen_edge.main" in names
"""


@pytest.fixture(scope="module")
def edge_bin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of an environment in which lianzhen[edge] is installed, not editable."""
    environment = tmp_path_factory.mktemp("edge") / "venv"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    install = subprocess.run(
        [environment / "bin/python", "-m", "pip", "install", "--quiet", "--retries=1", ".[edge]"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if install.returncode and any(sign in install.stderr for sign in OFFLINE):
        pytest.skip("offline: the libraries of a fresh environment come from the package index")
    assert install.returncode == 0, install.stderr
    return environment / "bin"


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120)


pytestmark = pytest.mark.timeout(400)


def test_edge_tells_its_version(edge_bin: Path, tmp_path: Path) -> None:
    result = run(edge_bin / "lianzhen-edge", "--version", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert "0." in result.stdout


def test_every_edge_module_imports(edge_bin: Path, tmp_path: Path) -> None:
    result = run(edge_bin / "python", "-I", "-c", IMPORT_ALL, cwd=tmp_path)
    assert result.returncode == 0, result.stderr


def test_a_box_runs_and_ends_when_it_is_told_to(edge_bin: Path) -> None:
    program = str(edge_bin / "lianzhen-edge")
    with tempfile.TemporaryDirectory(prefix="lz-") as folder:  # a socket's path is short
        port, console, setup = free_ports(3)
        config = Path(folder) / "edge.toml"
        ports = f"status_port = {port}\nconsole_port = {console}\nsetup_port = {setup}\n"
        config.write_text(f'state = "{folder}/state"\n{ports}')
        command = [program, "--config", str(config)]
        with subprocess.Popen([*command, "run"], stderr=subprocess.DEVNULL) as box:
            try:
                wait_until("a blank box", lambda: "unclaimed" in status_of(command))
            finally:
                box.send_signal(signal.SIGTERM)
            assert box.wait(120) == 0


def status_of(command: list[str]) -> str:
    return subprocess.run([*command, "status"], capture_output=True, text=True).stdout


@pytest.mark.parametrize("library", ["sqlalchemy", "alembic", "psycopg"])
def test_the_hubs_libraries_are_not_there(edge_bin: Path, tmp_path: Path, library: str) -> None:
    result = run(edge_bin / "python", "-I", "-c", f"import {library}", cwd=tmp_path)
    assert "ModuleNotFoundError" in result.stderr


@pytest.mark.parametrize("arguments", [["--version"], ["run"], []])
def test_the_hub_says_in_one_sentence_that_its_extra_is_missing(
    edge_bin: Path, tmp_path: Path, arguments: list[str]
) -> None:
    result = run(edge_bin / "lianzhen-hub", *arguments, cwd=tmp_path)
    assert result.returncode != 0
    (sentence,) = result.stderr.splitlines()
    assert "[hub]" in sentence
