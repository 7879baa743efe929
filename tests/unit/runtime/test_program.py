"""How a program ends: asked to, with one sentence, or with a bug's traceback."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator

import pytest

from lianzhen_runtime.errors import ConfigError, LianzhenError, Unavailable
from lianzhen_runtime.program import run_program

Main = Callable[[], Coroutine[None, None, None]]
PORT = "port 8883 is taken; stop the other program"


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def raising(error: Exception) -> Main:
    async def main() -> None:
        raise error

    return main


def in_groups(*errors: Exception) -> Main:
    """A root task group whose services fail at once, one of them in a group of its own."""

    async def main() -> None:
        async with asyncio.TaskGroup() as services:
            for error in errors:
                services.create_task(nested(error))

    async def nested(error: Exception) -> None:
        async with asyncio.TaskGroup() as inner:
            inner.create_task(raising(error)())

    return main


async def nothing() -> None:
    pass


def test_a_program_that_is_done_ends_well(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_program("lianzhen-hub", nothing) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("around", [raising, in_groups])
@pytest.mark.parametrize(
    ("error", "status"), [(Unavailable(PORT), 1), (ConfigError(PORT), 2), (LianzhenError(PORT), 1)]
)
def test_an_error_of_ours_is_one_sentence_and_its_status(
    capsys: pytest.CaptureFixture[str],
    around: Callable[[Exception], Main],
    error: LianzhenError,
    status: int,
) -> None:
    assert run_program("lianzhen-hub", around(error)) == status
    assert capsys.readouterr().err == f"lianzhen-hub: {PORT}\n"


def test_two_errors_of_ours_are_still_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_program("lianzhen-hub", in_groups(Unavailable(PORT), Unavailable(PORT))) == 1
    assert capsys.readouterr().err == f"lianzhen-hub: {PORT}\n"


def test_a_bug_is_not_explained_away(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ZeroDivisionError):
        run_program("lianzhen-hub", raising(ZeroDivisionError("bug")))
    with pytest.raises(ExceptionGroup):
        run_program("lianzhen-hub", in_groups(ZeroDivisionError("bug")))
    with pytest.raises(ExceptionGroup):
        run_program("lianzhen-hub", in_groups(Unavailable(PORT), ZeroDivisionError("bug")))
    assert capsys.readouterr().err == ""


def test_what_it_writes_is_its_owners() -> None:
    run_program("lianzhen-hub", nothing)
    assert os.umask(0o022) == 0o077


# -- a process of its own

WAITING = """
import asyncio, sys
from lianzhen_runtime.program import run_program
async def service():
    try:
        print("ready", flush=True)
        await asyncio.Event().wait()
    finally:
        print("tidied up", flush=True)
async def main():
    async with asyncio.TaskGroup() as services:
        services.create_task(service())
sys.exit(run_program("lianzhen-edge", main))
"""

BROKEN = """
import sys
from lianzhen_runtime.program import run_program
async def main():
    {}["the bug"]
sys.exit(run_program("lianzhen-edge", main))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_well(number: signal.Signals) -> None:
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", WAITING], stdout=pipe, stderr=pipe) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == b"ready\n"
        program.send_signal(number)
        out, complaint = program.communicate(timeout=60)
    assert (program.returncode, out, complaint) == (0, b"tidied up\n", b"")


def test_a_bug_keeps_its_traceback() -> None:
    done = subprocess.run([sys.executable, "-c", BROKEN], capture_output=True, check=False)
    assert done.returncode == 1
    assert b"Traceback" in done.stderr
    assert b"KeyError: 'the bug'" in done.stderr
