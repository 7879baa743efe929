"""Power loss: one run of the box's storage code is recorded, and its disk is cut at any point.

``record`` runs the story under strace; ``play`` makes the disk of one outage and opens it.
"""

import asyncio
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from lianzhen_protocol.errors import SealBroken
from lianzhen_runtime.errors import LianzhenError

from . import power_story
from .power_checks import Lost, check
from .power_disk import CALLS, Outage, Trace, lay_out, read_trace

FAULTS: Final = (Lost, SealBroken, LianzhenError, OSError, sqlite3.Error, ValueError)
"""How a disk shows that something on it is not as it should be."""


def record(folder: Path, seed: int, steps: int) -> Trace:
    """The trace of a run; its disk as the program left it is at ``folder / "disk"``."""
    disk, said, seen = folder / "disk", folder / "said", folder / "trace"
    disk.mkdir(mode=0o700)
    command = ["strace", "-f", "-y", "-qq", "-xx", "-s", str(1 << 26), "--seccomp-bpf"]
    command += ["-e", f"trace={CALLS}", "-o", str(seen)]
    story = [sys.executable, "-m", power_story.__name__, str(disk), str(said)]
    done = subprocess.run(
        [*command, *story, str(seed), str(steps)],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    with seen.open(encoding="ascii") as lines:
        return read_trace(lines, disk, said)


@contextmanager
def after(trace: Trace, outage: Outage) -> Iterator[Path]:
    """The disk as it may be found after an outage."""
    root = Path(tempfile.mkdtemp(prefix="lz-power-"))
    try:
        lay_out(outage.image(trace), root)
        yield root
    finally:
        shutil.rmtree(root)


def play(trace: Trace, outage: Outage) -> str:
    """What is wrong after an outage; "" if nothing is."""
    with after(trace, outage) as root:
        try:
            asyncio.run(check(root, trace, outage.line))
        except FAULTS as fault:
            return f"{type(fault).__name__}: {fault}"
    return ""
