"""What every benchmark measures with: the machine in words, CPU time of programs, medians."""

import os
import platform
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import psutil

_MICRO = 1e6


def syncs_per_second(folder: Path, seconds: float = 0.5) -> float:
    """Appends of 1 KB with an fdatasync each: what one lone durable write can hope for."""
    block, count = os.urandom(1024), 0
    path = folder / "syncs"
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        began = time.monotonic()
        while (elapsed := time.monotonic() - began) < seconds:
            os.write(file, block)
            os.fdatasync(file)
            count += 1
    finally:
        os.close(file)
        path.unlink()
    return count / elapsed


def machine(folder: Path, syncs: Sequence[float] = ()) -> str:
    """CPU, memory, kernel and the file system under ``folder``, in one line.

    ``syncs`` are results of ``syncs_per_second``, taken during the run: a virtual disk may be ten
    times as fast in one minute as in the next.
    """
    speed = f" at {min(syncs):.0f}-{max(syncs):.0f} fdatasync/s of 1 KB" if syncs else ""
    return ", ".join(
        (
            f"{_cpu_model()} with {psutil.cpu_count() or 0} cores",
            f"{psutil.virtual_memory().total / 2**30:.0f} GB memory",
            f"{platform.system()} {platform.release()}",
            f"{_file_system(folder)}{speed}",
            f"Python {platform.python_version()}",
        )
    )


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith(("model name", "Model")):
            return line.partition(":")[2].strip()
    return platform.machine()


def _file_system(folder: Path) -> str:
    under = [
        part
        for part in psutil.disk_partitions(all=True)
        if folder.resolve().is_relative_to(part.mountpoint)
    ]
    return max(under, key=lambda part: len(part.mountpoint)).fstype if under else "file system"


def cpu_seconds(pid: int, *, children: bool = False) -> float:
    """CPU time of a process up to now; with ``children``, of its living and ended ones too."""
    process = psutil.Process(pid)
    own = process.cpu_times()
    total = own.user + own.system
    if children:
        total += own.children_user + own.children_system
        total += sum(
            times.user + times.system
            for times in (child.cpu_times() for child in process.children(recursive=True))
        )
    return float(total)


class CpuMeter:
    """CPU time of named programs, and of everything else on the machine, from now on.

    ``apart`` are programs of the benchmark itself, such as the load generator: they belong to
    no program that is measured, and they are not strangers either.
    """

    def __init__(
        self, programs: Mapping[str, int], *, families: Iterable[str] = (), apart: Sequence[int]
    ) -> None:
        self._programs = dict(programs)
        self._families = frozenset(families)
        self._apart = (*apart, os.getpid())
        self._began = time.monotonic()
        self._before = self._now()

    def read(self) -> tuple[dict[str, float], float]:
        """CPU seconds of each program since the start, and cores that strangers kept busy."""
        now = self._now()
        spent = {name: now[name] - self._before[name] for name in now}
        busy, apart = spent.pop("*busy"), spent.pop("*apart")
        strangers = busy - apart - sum(spent.values())
        return spent, max(0.0, strangers / (time.monotonic() - self._began))

    def _now(self) -> dict[str, float]:
        whole = psutil.cpu_times()
        found = {
            name: cpu_seconds(pid, children=name in self._families)
            for name, pid in self._programs.items()
        }
        found["*busy"] = whole.user + whole.nice + whole.system + whole.irq + whole.softirq
        found["*apart"] = sum(cpu_seconds(pid) for pid in self._apart)
        return found


def micros_each(spent: Mapping[str, float], count: int) -> dict[str, float]:
    """CPU seconds of ``count`` things as microseconds of one."""
    return {name: round(seconds / count * _MICRO, 1) for name, seconds in spent.items()}


def medians(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The median of each column of rows that all have the same ones."""
    return {name: round(statistics.median(row[name] for row in rows), 1) for name in rows[0]}


def percentile(sorted_values: Sequence[float], percent: float) -> float:
    """The value that ``percent`` of all lie at or below (nearest rank)."""
    rank = max(1, -(-len(sorted_values) * percent // 100))
    return sorted_values[int(rank) - 1]
