"""Durable files: old or new as a whole, secrets with their mode, one process a folder."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lianzhen_runtime.errors import SecretError, Unavailable
from lianzhen_runtime.files import (
    private_folder,
    read_secret,
    remove_durably,
    sole_user,
    write_durably,
)

OLD, NEW = b"old " * 1000, b"new " * 3000
STEPS = ("open", "fchmod", "write", "fsync", "rename", "fsync of the folder")
"""Everything that ``write_durably`` asks of the file system, in its order."""


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(OLD)
    return path


class Wrapped:
    """The file that is written, with a write that counts as a step."""

    def __init__(self, file: Any, step: Any) -> None:
        self._file, self._step = file, step

    def __enter__(self) -> "Wrapped":
        self._file.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.__exit__(*exception)

    def write(self, content: bytes) -> None:
        self._file.write(content[:5])
        self._step("write")
        self._file.write(content[5:])

    def flush(self) -> None:
        self._file.flush()


class Steps:
    """Notes each step, and lets ``at`` happen before the one called ``fatal``."""

    def __init__(self, patch: pytest.MonkeyPatch, fatal: str = "", at: Any = None) -> None:
        self.taken: list[str] = []
        self._fatal, self._at = fatal, at
        fdopen, rename = os.fdopen, Path.rename
        self._around(patch, "open")
        self._around(patch, "fchmod")
        self._around(patch, "fsync")
        patch.setattr(os, "fdopen", lambda *args: Wrapped(fdopen(*args), self.step))

        def renaming(source: Path, to: Path) -> Path:
            self.step("rename")
            return rename(source, to)

        patch.setattr(Path, "rename", renaming)

    def _around(self, patch: pytest.MonkeyPatch, name: str) -> None:
        real = getattr(os, name)

        def stepped(*args: Any) -> Any:
            if not ("rename" in self.taken and name == "open"):  # of the folder
                self.step("fsync of the folder" if name in self.taken else name)
            return real(*args)

        patch.setattr(os, name, stepped)

    def step(self, name: str) -> None:
        if name == self._fatal:
            self._at()
        self.taken.append(name)


def fail() -> None:
    raise OSError(28, "No space left on device")


def test_it_is_synced_before_it_takes_the_old_ones_name(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        steps = Steps(patch)
        write_durably(target, NEW)
    assert steps.taken == list(STEPS)
    assert target.read_bytes() == NEW


@pytest.mark.parametrize("fatal", STEPS)
def test_a_failure_leaves_the_old_or_the_new_and_nothing_beside_it(
    target: Path, monkeypatch: pytest.MonkeyPatch, fatal: str
) -> None:
    with monkeypatch.context() as patch:
        Steps(patch, fatal, fail)
        with pytest.raises(OSError, match="No space left"):
            write_durably(target, NEW)
    assert target.read_bytes() == (NEW if fatal == STEPS[-1] else OLD)
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("fatal", STEPS)
def test_a_crash_leaves_the_old_or_the_new(
    target: Path, monkeypatch: pytest.MonkeyPatch, fatal: str
) -> None:
    child = os.fork()
    if child == 0:
        Steps(monkeypatch, fatal, lambda: os._exit(9))
        write_durably(target, NEW)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 9
    assert target.read_bytes() == (NEW if fatal == STEPS[-1] else OLD)
    write_durably(target, NEW)  # whatever the crash left does not stand in the way
    assert target.read_bytes() == NEW


@pytest.fixture
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("open_umask")
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644])
def test_the_mode_is_what_was_asked_for(target: Path, mode: int) -> None:
    target.chmod(0o666)
    write_durably(target, NEW, mode)
    assert target.stat().st_mode & 0o777 == mode


@pytest.mark.usefixtures("open_umask")
def test_without_a_word_only_the_owner_may_read(tmp_path: Path) -> None:
    write_durably(tmp_path / "secret", b"x")
    assert read_secret(tmp_path / "secret") == b"x"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o601])
def test_a_secret_that_others_can_read_is_refused_with_the_remedy(target: Path, mode: int) -> None:
    target.chmod(mode)
    with pytest.raises(SecretError, match=f"run: chmod 600 {target}"):
        read_secret(target)


def test_a_missing_secret_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(SecretError, match="is missing"):
        read_secret(tmp_path / "nothing")


def test_what_is_removed_may_be_gone_already(target: Path) -> None:
    remove_durably(target)
    remove_durably(target)
    assert not target.exists()


@pytest.mark.usefixtures("open_umask")
def test_a_private_folder_is_closed_also_where_it_was_open(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir(mode=0o755)
    for folder in (tmp_path / "old", tmp_path / "new" / "below"):
        assert private_folder(folder).stat().st_mode & 0o777 == 0o700


# -- one process at a time

HOLDER = """
import sys
from pathlib import Path
from lianzhen_runtime.files import sole_user
with sole_user(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_folder_has_one_program_until_it_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(Unavailable, match="another program is running"), sole_user(tmp_path):
            pass
        holder.send_signal(signal.SIGKILL)
        holder.wait(60)
    with sole_user(tmp_path):
        pass
    with sole_user(tmp_path):
        pass
