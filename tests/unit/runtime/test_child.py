"""A child ends with its parent, also with one that died before the child had asked for it."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lab import wait_until
from lianzhen_runtime.child import Child, ChildDied, still_ours
from support.fleet import until

PARENT = """
import asyncio, sys
from lianzhen_runtime.child import Child
asyncio.run(Child("sleeper", ["sh", "-c", "echo $$ >{file}; exec sleep 60"]).run())
"""


def test_a_command_begins_only_while_its_parent_is_the_one_that_meant_it(tmp_path: Path) -> None:
    made = tmp_path / "made"
    mine = still_ours(["touch", str(made)])
    orphans = [str(os.getppid()) if word == str(os.getpid()) else word for word in mine]
    assert subprocess.run(orphans, check=False).returncode != 0
    assert not made.exists()
    assert subprocess.run(mine, check=False).returncode == 0
    assert made.exists()


def test_a_child_ends_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    parent = subprocess.Popen([sys.executable, "-c", PARENT.format(file=file)])
    wait_until("a child", lambda: file.exists() and file.read_text().endswith("\n"))
    child = Path("/proc") / file.read_text().strip()
    assert child.exists()
    parent.kill()
    parent.wait(60)
    wait_until("the child's end", lambda: not child.exists(), 10)


async def test_a_child_that_dies_is_a_fault_with_its_status() -> None:
    child = Child("short", ["sh", "-c", "exit 3"])
    with pytest.raises(ChildDied, match="short ended with status 3"):
        await child.run()
    assert child.pid is None


async def test_a_child_is_ended_when_its_service_is_cancelled() -> None:
    child = Child("long", ["sleep", "60"])
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(child.run())
        await until(lambda: child.pid is not None)
        pid = child.pid or 0
        os.kill(pid, 0)
        running.cancel()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
