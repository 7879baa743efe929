"""`./do` as somebody meets it on a machine that is not as it should be."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# the plainest tools, that every Debian has
TOOLS = (
    *("awk", "basename", "bash", "cat", "chmod", "cut", "date", "df", "dirname", "env", "flock"),
    *("grep", "mkdir", "mktemp", "mount", "readlink", "rm", "sh", "sha256sum", "sleep", "tail"),
    *("touch", "unshare"),
)


def verbs_in_help() -> set[str]:
    text = subprocess.run(["./do", "help"], cwd=ROOT, check=True, capture_output=True, text=True)
    return set(re.findall(r"^\./do ([a-z]+)", text.stdout, re.MULTILINE))


def verbs_in_script() -> set[str]:
    script = (ROOT / "do").read_text()
    dispatch = script[script.index("case $verb in") :]
    return set(re.findall(r"^  ([a-z]+)\)", dispatch, re.MULTILINE))


def test_help_names_every_verb_and_no_other() -> None:
    assert verbs_in_script() == verbs_in_help()
    assert verbs_in_help() >= {"demo", "test", "lint", "bench", "soak", "clean", "help"}


class Machine:
    """A checkout of its own, and a PATH that holds our fakes and the plainest tools only."""

    def __init__(self, place: Path) -> None:
        self.checkout = place / "checkout"
        self.bin = place / "bin"
        self.checkout.mkdir(parents=True)
        self.bin.mkdir()
        for name in ("do", "pyproject.toml"):
            shutil.copy(ROOT / name, self.checkout)
        for tool in TOOLS:
            self.bin.joinpath(tool).symlink_to(shutil.which(tool) or pytest.fail(f"no {tool}"))
        self.fake("id", "echo 1000")
        self.fake("python3", "echo 3.11")
        self.fake("dpkg-query", "exit 1")  # nothing is installed

    def fake(self, name: str, script: str) -> None:
        tool = self.bin / name
        tool.unlink(missing_ok=True)
        tool.write_text(f"#!/bin/sh\n{script}\n")
        tool.chmod(0o755)

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=self.checkout,
            env={"PATH": str(self.bin), "HOME": str(self.checkout), "LANG": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def complaint(self, *command: str) -> str:
        """What a failing command says: one sentence, on one line."""
        result = self.run(*command)
        assert result.returncode == 1
        (line,) = result.stderr.splitlines()
        assert line.startswith("do: ")
        return line


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_an_unknown_verb_is_one_sentence(machine: Machine) -> None:
    assert machine.complaint("./do", "dmeo") == "do: there is no verb 'dmeo'; ./do help lists them."


def test_an_unknown_benchmark_lists_those_there_are(machine: Machine) -> None:
    folder = machine.checkout / "tests/bench"
    folder.mkdir(parents=True)
    for name in ("sync.py", "ingest.py", "_peer.py"):
        (folder / name).touch()
    assert machine.complaint("./do", "bench", "snyc").endswith("these names: ingest sync.")


@pytest.mark.parametrize("verb", ["demo", "test", "lint", "soak"])
def test_an_old_python_is_one_sentence(machine: Machine, verb: str) -> None:
    machine.fake("python3", "echo 3.9")
    assert "Python 3.11 or newer is needed, and python3 is 3.9" in machine.complaint("./do", verb)


def test_another_system_than_debian_is_one_sentence(machine: Machine) -> None:
    (machine.bin / "dpkg-query").unlink()
    assert "this is not Debian" in machine.complaint("./do", "demo")


def test_without_sudo_it_says_what_root_should_run(machine: Machine) -> None:
    complaint = machine.complaint("./do", "demo")
    assert "there is no sudo" in complaint
    assert "as root run: apt-get install python3-venv mosquitto " in complaint


def test_a_refused_sudo_says_what_root_should_run(machine: Machine) -> None:
    machine.fake("sudo", "echo 'sudo: a password is required' >&2; exit 1")
    complaint = machine.complaint("./do", "demo")
    assert "sudo was refused" in complaint
    assert "as root run: apt-get install python3-venv mosquitto " in complaint


@pytest.mark.parametrize(
    ("pip_says", "sentence"),
    [
        ("Failed to establish: NewConnectionError", "there is no network"),
        ("OSError: [Errno 28] No space left on device", "the disk is full"),
    ],
)
def test_a_failure_with_a_plain_reason_is_one_sentence(
    machine: Machine, pip_says: str, sentence: str
) -> None:
    machine.fake("dpkg-query", 'for name; do printf "%s:installed " "$name"; done')
    machine.fake("python3", f'[ "$1" != -m ] || {{ echo "{pip_says}"; exit 1; }}; echo 3.11')
    assert sentence in machine.complaint("./do", "demo")


# What installs Debian packages runs as root and writes into /usr/sbin. These tests give it a mount
# namespace in which /usr/sbin is an empty folder, and look at what stays there.
class Administrator:
    def __init__(self, machine: Machine, sbin: Path) -> None:
        self.machine = machine
        self.sbin = sbin
        sbin.mkdir()
        machine.fake("id", "echo 0")
        for name in ("service", "update-rc.d"):
            machine.fake(name, "exit 0")
        private = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "-r", "--mount"]
        mount = f'mount --bind "{sbin}" /usr/sbin'
        if machine.run(*private, "sh", "-c", mount).returncode:
            pytest.skip("this user may not make a mount namespace")
        self.units, self.scripts = sbin.with_name("units"), sbin.with_name("init.d")
        for folder, place in ((self.units, "/lib/systemd/system"), (self.scripts, "/etc/init.d")):
            folder.mkdir()
            mount += f' && mount --bind "{folder}" {place}'
        self.namespace = [*private, "sh", "-c", f"{mount} && exec ./do demo"]

    def installs(self, apt_rc: int) -> list[str]:
        """Run it; the answers to: may mosquitto start? while apt-get ran (update, install)."""
        ask = "/usr/sbin/policy-rc.d mosquitto start; echo $? >>$HOME/answers"
        self.machine.fake("apt-get", f"{ask}; exit {apt_rc}")
        self.machine.fake("python3", '[ "$1" != -m ] || exit 1; echo 3.11')  # it ends after apt
        assert self.machine.run(*self.namespace).returncode == 1
        return (self.machine.checkout / "answers").read_text().split()


@pytest.fixture
def administrator(machine: Machine, tmp_path: Path) -> Administrator:
    return Administrator(machine, tmp_path / "sbin")


@pytest.mark.parametrize("apt_rc", [0, 100])
def test_no_server_may_start_and_no_policy_stays_behind(
    administrator: Administrator, apt_rc: int
) -> None:
    assert administrator.installs(apt_rc) == ["101", "101"]
    assert list(administrator.sbin.iterdir()) == []


def test_a_policy_of_the_machine_itself_is_left_alone(administrator: Administrator) -> None:
    theirs = administrator.sbin / "policy-rc.d"
    theirs.write_text("#!/bin/sh\nexit 104\n")
    theirs.chmod(0o755)
    assert administrator.installs(0) == ["104", "104"]
    assert theirs.read_text() == "#!/bin/sh\nexit 104\n"


def test_a_server_that_came_along_is_neither_running_nor_enabled(
    administrator: Administrator,
) -> None:
    for unit in ("cups.path", "cups.service", "cups.socket", "mosquitto.service", "ssh.service"):
        (administrator.units / unit).touch()
    for script in ("cups", "mosquitto", "ssh"):
        (administrator.scripts / script).touch()
    for tool in ("deb-systemd-helper", "service", "update-rc.d"):
        administrator.machine.fake(tool, f'echo {tool} "$@" >>$HOME/calls')
    administrator.installs(0)
    calls = (administrator.machine.checkout / "calls").read_text().splitlines()
    assert [call for call in calls if "cups" in call] == [
        "deb-systemd-helper disable cups.path",
        "deb-systemd-helper disable cups.socket",
        "deb-systemd-helper disable cups.service",
        "service cups stop",
        "update-rc.d cups disable",
    ]
    assert "deb-systemd-helper disable mosquitto.service" in calls
    assert "update-rc.d mosquitto disable" in calls
    assert not [call for call in calls if "ssh" in call]
