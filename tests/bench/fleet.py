"""A fleet at one hub: simulated edges with real TLS and the real wire, as far as this machine goes.

Each edge holds both of its sessions under a certificate of its own. They come online; then frames
at growing rates, each judged by when it was due; then the broker is killed and all of them come
back at once, each with a record to tell. At the end the hub's tables are compared with what the
edges were told: lost or doubled records make this fail, being slow does not.

The certificates are put into the hub's tables before it starts: enrolment has a rate by address.
"""

import argparse
import contextlib
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

_TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(_TESTS), str(_TESTS.parent / "deploy")]

from bench.common.child import Child  # noqa: E402
from bench.common.fleet_tables import enrol  # noqa: E402
from bench.common.hub_view import HubView  # noqa: E402
from bench.common.measure import CpuMeter, machine, syncs_per_second  # noqa: E402
from bench.common.simulated_edge import STREAM  # noqa: E402
from lab import HubProgram, Lab, lab, wait_until  # noqa: E402

_SPARE_FILES = 400
_RATES = (100, 200, 400, 667, 1000, 1500, 2000, 3000)
_NOT_MEASURED = (
    "a real network (loopback only: no delay, no loss)",
    "the edges' own disks and programs: they are simulated in one process, on the same cores",
    "enrolment (their certificates were put into the hub's tables)",
)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./do bench fleet", description=__doc__)
    add = parser.add_argument
    add("--edges", type=int, default=1000, help="0: as many as open files allow (%(default)s)")
    add("--shards", type=int, default=1, help="ingest shards of the hub (%(default)s)")
    add("--at-once", type=int, default=50, help="edges that come online at a time (%(default)s)")
    add("--seconds", type=float, default=6.0, help="at each rate (%(default)s)")
    add("--records", type=int, default=4, help="kilobyte records in a frame (%(default)s)")
    add("--most", type=int, default=_RATES[-1], help="highest rate, frames/s (%(default)s)")
    add("--sqlite", action="store_true", help="SQLite instead of PostgreSQL")
    return parser.parse_args(arguments)


def most_edges() -> int:
    """How many edges the open files of one process allow: two connections each."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return (hard - _SPARE_FILES) // 2


class Bench:
    """One run in one lab."""

    def __init__(self, options: argparse.Namespace, made: Lab) -> None:
        self._options = options
        self._lab = made
        self.edges = min(options.edges or most_edges(), most_edges())
        postgres = None if options.sqlite else made.postgres()
        shards: dict[str, object] = {} if options.shards == 1 else {"shards": options.shards}
        self._hub = made.hub("hub", None if postgres is None else postgres.url, **shards)
        self._url = f"sqlite:///{self._hub.state}/hub.db" if postgres is None else postgres.url
        self._pids = {} if postgres is None else {"database": postgres.pid}
        self.phases: dict[str, Any] = {}

    def run(self) -> dict[str, Any]:
        """The result as the last line gives it."""
        syncs = [syncs_per_second(self._lab.folder)]
        listed, authority = enrol(self._hub, self._url, self.edges, self._lab.folder / "edges")
        hub = self._hub.start().wait()
        self._pids |= {"hub": hub.pid, "broker": hub.broker_pid()}
        swarm = Child(
            "bench.common.swarm",
            {
                "address": ["127.0.0.1", hub.mqtt_port],
                "authority": authority,
                "edges": str(listed),
            },
            self._lab.folder / "swarm.log",
        )
        try:
            self._connect(swarm)
            rates = list(self._loads(swarm))
            self._storm(swarm, hub)
            total = swarm.ask(end=True)
        finally:
            swarm.end()
        return {
            "bench": "fleet",
            "what": (
                f"{self.edges} simulated edges, {2 * self.edges} TLS connections, "
                f"{self._options.shards} ingest shard(s); a frame is {self._options.records} "
                "records of a kilobyte; CPU in ms for one connection or one frame"
            ),
            "table": _table(self.phases, rates),
            "peers": {},
            "ratios": {},
            "edges": self.edges,
            "connections": 2 * self.edges,
            "most_edges_by_open_files": most_edges(),
            "database": "sqlite" if self._options.sqlite else "postgresql",
            "shards": self._options.shards,
            **self.phases,
            "rates": rates,
            "carried_frames_per_s": max(
                (row["offered_per_s"] for row in rates if row["carried"]), default=0
            ),
            "total": total | self._in_tables(),
            "machine": machine(self._lab.folder, [*syncs, syncs_per_second(self._lab.folder)]),
            "load_average": os.getloadavg(),
            "not_measured": list(_NOT_MEASURED),
        }

    # -- phases

    def _connect(self, swarm: Child) -> None:
        before = self._memory()
        with self._metered(swarm, "connect") as figures:
            figures |= swarm.ask(connect=self._options.at_once)
        after, sessions = self._memory(), 2 * figures["online"]
        figures["sessions_at_hub"] = self._hub.json("status")["sessions"]
        figures["memory_bytes_per_connection"] = {
            name: round((after[name] - before[name]) / sessions) for name in ("hub", "broker")
        }
        figures["cpu_ms_per_connection"] = _each(figures["cpu_seconds"], sessions)

    def _loads(self, swarm: Child) -> Iterator[dict[str, Any]]:
        options = self._options
        for rate in (rate for rate in _RATES if rate <= options.most):
            with self._metered(swarm, "load") as figures:
                figures |= swarm.ask(load=rate, seconds=options.seconds, records=options.records)
            figures["cpu_ms_per_frame"] = _each(figures["cpu_seconds"], figures["frames"])
            spread = figures["commit_ms"]
            kept_up = figures["offered_per_s"] > 0.95 * rate
            figures["carried"] = bool(kept_up and spread and spread["p99"] < 1000)
            self.phases.pop("load")
            _say(f"{rate} frames/s", figures)
            yield figures
            if not figures["carried"]:
                return

    def _storm(self, swarm: Child, hub: HubProgram) -> None:
        """The broker dies as a power cut ends it; the hub starts it again."""
        with self._metered(swarm, "storm", without=("broker",)) as figures:
            swarm.send(storm=1)
            os.kill(self._pids["broker"], signal.SIGKILL)
            figures |= swarm.receive()
        figures["hub_is_the_same_process"] = hub.running()
        figures["hub_is_healthy"] = hub.healthy()
        wait_until("a broker", lambda: hub.json("status")["broker_pid"] is not None)
        figures["broker_cpu_seconds"] = round(_cpu(hub.broker_pid()), 1)

    def _in_tables(self) -> dict[str, int]:
        view = HubView(self._url, STREAM)
        try:
            wait_until("an applied log", lambda: view.applied() >= view.logged(), 60)
            return {"logged": view.logged(), "applied": view.applied(), "marks": view.committed()}
        finally:
            view.close()

    # -- meters

    @contextlib.contextmanager
    def _metered(
        self, swarm: Child, phase: str, without: Sequence[str] = ()
    ) -> Iterator[dict[str, Any]]:
        figures: dict[str, Any] = {}
        pids = {name: pid for name, pid in self._pids.items() if name not in without}
        pids["edges"] = swarm.pid
        began = time.monotonic()
        meter = CpuMeter(pids, families=("database", "hub"), apart=())
        # The broker is a child of the hub, and has a line of its own.
        brokers = 0.0 if "broker" in without else _cpu(self._pids["broker"])
        yield figures
        spent, strangers = meter.read()
        if "broker" not in without:
            spent["hub"] -= _cpu(self._pids["broker"]) - brokers
        took = time.monotonic() - began
        figures["cpu_seconds"] = {name: round(value, 2) for name, value in spent.items()}
        figures["cpu_cores"] = {name: round(value / took, 2) for name, value in spent.items()}
        figures["other_load_cores"] = round(strangers, 2)
        self.phases[phase] = figures
        if phase != "load":
            _say(phase, figures)

    def _memory(self) -> dict[str, int]:
        found = {name: _resident(pid) for name, pid in self._pids.items()}
        family = psutil.Process(self._pids["hub"]).children(recursive=True)
        shards = [each.pid for each in family if each.pid != self._pids["broker"]]
        found["hub"] += sum(map(_resident, shards))
        return found


def _table(phases: Mapping[str, Any], rates: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """For docs/figures.md."""
    connect, storm = phases["connect"], phases["storm"]
    memory = connect["memory_bytes_per_connection"]
    rows = [
        ["", "half / all, s", "commit p50 / p99, ms", "CPU, ms each", "others, cores"],
        [
            f"come online; memory each: hub {memory['hub']} B, broker {memory['broker']} B",
            f"{connect['seconds']['half']} / {connect['seconds']['all']}",
            "–",
            _pairs(connect["cpu_ms_per_connection"]),
            str(connect["other_load_cores"]),
        ],
    ]
    for row in rates:
        late = "" if row["carried"] else ", not carried"
        rows.append(
            [
                f"{row['offered_per_s']:.0f} frames/s{late}",
                "–",
                _spread(row["commit_ms"]),
                _pairs(row["cpu_ms_per_frame"]),
                str(row["other_load_cores"]),
            ]
        )
    rows.append(
        [
            "broker killed, all come back at once, a record each",
            f"{storm['seconds']['half']} / {storm['seconds']['all']}",
            _spread(storm["told_ms"]),
            "–",
            str(storm["other_load_cores"]),
        ]
    )
    return rows


def _pairs(found: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.2f}" for name, value in found.items())


def _spread(found: Mapping[str, float] | None) -> str:
    return f"{found['p50']:.0f} / {found['p99']:.0f}" if found else "–"


def _cpu(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def _resident(pid: int) -> int:
    return int(psutil.Process(pid).memory_info().rss)


def _each(spent: Mapping[str, float], count: int) -> dict[str, float]:
    return {name: round(seconds / max(count, 1) * 1000, 3) for name, seconds in spent.items()}


def _say(what: str, figures: Mapping[str, Any]) -> None:
    print(f"{what}: {json.dumps(figures)}", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; the result is the last line. 1 if a record was lost or doubled."""
    options = _options(arguments)
    with lab() as made:
        bench = Bench(options, made)
        print(f"{bench.edges} edges, {2 * bench.edges} connections", flush=True)
        result = bench.run()
    print(json.dumps(result))
    total = result["total"]
    wanted = {total[name] for name in ("put", "committed", "logged", "applied", "marks")}
    return 0 if len(wanted) == 1 and not total["failures"] else 1


if __name__ == "__main__":
    sys.exit(main())
