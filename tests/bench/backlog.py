"""A box that was long without its hub: how soon it starts, and how much memory it takes to drain.

The hub is away while the box is given a backlog. Then the box is started anew, which is timed until
it answers; the hub comes back, and the box's memory (resident set) is looked at until nothing is
left. Start-up is also measured with an empty journal, as most of it is not the journal's.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

_TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(_TESTS), str(_TESTS.parent / "deploy")]

from bench.common.hub_view import HubView  # noqa: E402
from bench.common.measure import CpuMeter, machine, syncs_per_second  # noqa: E402
from bench.common.payload import entry  # noqa: E402
from lab import BoxProgram, HubProgram, LabError, ask, lab, wait_until  # noqa: E402

STREAM = "record.bench"
_BATCH = 1000
_LOOK_SECONDS = 0.2
_PATIENCE = 1800.0
_MOST_GROWTH_MB, _MOST_START_S = 10.0, 3.0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./do bench backlog", description=__doc__)
    add = parser.add_argument
    add("--records", type=int, default=200_000, help="of 1 KB (%(default)s)")
    add("--starts", type=int, default=3, help="of each kind, the median counts (%(default)s)")
    add("--full", action="store_true", help="a million records")
    options = parser.parse_args(arguments)
    if options.full:
        options.records = 1_000_000
    return options


def resident_mb(pid: int) -> float:
    """Memory of one process."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1000
    raise LabError(f"process {pid} has ended")


def _start(box: BoxProgram) -> float:
    """Seconds from the command until the box answers."""
    began = time.monotonic()
    box.start()
    wait_until("a box that answers", lambda: bool((box.status() or {}).get("streams") is not None))
    return time.monotonic() - began


def _starts(box: BoxProgram, count: int) -> float:
    found = []
    for _ in range(count):
        box.stop()
        found.append(_start(box))
    return round(sorted(found)[len(found) // 2], 2)


def _fill(box: BoxProgram, count: int) -> None:
    for at in range(0, count, _BATCH):
        body = msgspec.msgpack.encode([entry()[1] for _ in range(min(_BATCH, count - at))])
        answer = ask(box.state / "control.sock", "POST", f"/records?stream={STREAM}", body)
        if answer.status != 201:
            raise LabError(f"the box answers {answer.status}: {answer.body}")


def _committed(box: BoxProgram) -> int:
    rows = (box.status() or {"streams": []})["streams"]
    return sum(int(row["committed"]) for row in rows if row["stream"] == STREAM)


def _drain(hub: HubProgram, box: BoxProgram, count: int) -> dict[str, Any]:
    """The hub comes back; the box's memory from before that to its last record."""
    seen = [resident_mb(box.pid)]
    hub.start()

    def grows(holds: Callable[[], bool]) -> bool:
        time.sleep(_LOOK_SECONDS)
        seen.append(resident_mb(box.pid))
        return holds()

    wait_until("a drain that began", lambda: grows(lambda: _committed(box) > 0))
    meter = CpuMeter({"edge": box.pid, "broker": hub.broker_pid(), "hub": hub.pid}, apart=())
    began, done = time.monotonic(), _committed(box)
    wait_until("a drained box", lambda: grows(box.drained), _PATIENCE)
    seconds, count_here = time.monotonic() - began, count - done
    spent, strangers = meter.read()
    view = HubView(f"sqlite:///{hub.state}/hub.db", STREAM)
    logged = view.logged()
    view.close()
    return {
        "drained_per_s": round(count_here / seconds),
        "resident_mb_before": round(seen[0], 1),
        "resident_mb_most": round(max(seen), 1),
        "growth_mb": round(max(seen) - seen[0], 1),
        "cpu_us_per_record": {
            name: round(each / count_here * 1e6, 1) for name, each in spent.items()
        },
        "other_load_cores": round(strangers, 2),
        "put": count,
        "logged": logged,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and the result as the last line. 1 if a bound of the product is passed."""
    options = _options(arguments)
    with lab() as made:
        syncs = [syncs_per_second(made.folder)]
        hub = made.hub().start().wait()
        box = made.box().start()
        box.enrol(hub)
        hub.stop()
        empty = _starts(box, options.starts)
        began = time.monotonic()
        _fill(box, options.records)
        filled = options.records / (time.monotonic() - began)
        start = _starts(box, options.starts)
        print(f"filled at {filled:.0f}/s; starts in {start} s, empty in {empty} s", flush=True)
        found = {"start_s": start, "start_empty_s": empty, "filled_per_s": round(filled)}
        found |= _drain(hub, box, options.records)
        result = {
            "bench": "backlog",
            "what": f"{options.records} records of 1 KB, put while the hub was away, SQLite",
            "ours": found,
            "peers": {},
            "ratios": {},
            "table": [["", "", "bound"], *_rows(found)],
            "machine": machine(made.folder, syncs),
            "not_measured": ["peers", "memory of the hub"],
        }
    print(json.dumps(result))
    lost = found["logged"] != found["put"]
    high = found["growth_mb"] > _MOST_GROWTH_MB or found["start_s"] > _MOST_START_S
    return 1 if lost or high else 0


def _rows(found: dict[str, Any]) -> list[list[str]]:
    return [
        ["start until it answers, s", str(found["start_s"]), f"{_MOST_START_S}"],
        ["the same with an empty journal, s", str(found["start_empty_s"]), ""],
        ["memory before the hub is back, MB", str(found["resident_mb_before"]), ""],
        ["most while it drains, MB", str(found["resident_mb_most"]), ""],
        ["growth, MB", str(found["growth_mb"]), f"{_MOST_GROWTH_MB}"],
        ["put, records/s", str(found["filled_per_s"]), ""],
        ["drained, records/s", str(found["drained_per_s"]), ""],
    ]


if __name__ == "__main__":
    sys.exit(main())
