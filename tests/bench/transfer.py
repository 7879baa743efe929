"""A study on its way to the hub over a line that is cut again and again: ours beside three others.

Everyone carries the same study over HTTPS at the same time, each over a line of its own with the
same rate, delay and cuts, and tries again as it is meant to be tried again. Counted is what goes on
the line, whether it arrives or not: "wire" is all of TCP's payload, "body" what is inside the TLS
of HTTPS (bodies, and heads with them). Our payload is the study and its previews. Nothing here
fails for being slow; the exit status is 1 if ours did not get there whole.

orthanc_peer: the study as one job of Orthanc's /peers/store, resubmitted when it failed.
stow_study, stow_instance: dicomweb-client to Orthanc's DICOMweb plugin, the study in one POST or an
image in each, sent again half a second after a failure.
"""

import argparse
import contextlib
import json
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

_TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(_TESTS), str(_TESTS.parent / "deploy")]

from bench.common.child import Child  # noqa: E402
from bench.common.measure import CpuMeter, cpu_seconds, machine, syncs_per_second  # noqa: E402
from bench.common.study import study  # noqa: E402
from bench.common.wan import Shape, Wan  # noqa: E402
from bench.peers import orthanc  # noqa: E402
from bench.peers.certificates import certificates  # noqa: E402
from bench.peers.orthanc import Orthanc  # noqa: E402
from lab import BoxProgram, HubProgram, Lab, free_ports, lab, wait_until  # noqa: E402
from support.modality import association, storescu  # noqa: E402

_NOT_COMPARED = (
    "a real network: TCP's handshake, slow start and retransmission; a cut resets connections",
    "Orthanc's transfers accelerator, which Debian does not have",
    "days between (tests/fault/test_upload_cuts.py has the years, not the waiting)",
    "CPU of the same work: ours also takes the study in, seals it and makes previews",
)
_POLL_SECONDS = 0.1


class Run(NamedTuple):
    """What became of one contender."""

    done: bool
    seconds: float
    wire: int
    body: int
    tries: int
    payload: int
    known_s: float | None
    """When the sender knew, if it is told by another way."""
    cpu_s: dict[str, float]
    """CPU seconds of each end, until it was there."""


class Contender:
    """One way over one line. ``go`` in a thread, until all is there or time is up."""

    name = ""
    promise = ""

    def __init__(self, wan: Wan, door: int, payload: int) -> None:
        self._wan = wan
        self._door = door
        self._payload = payload

    def pids(self) -> dict[str, int]:
        """Of its programs at both ends."""
        raise NotImplementedError

    def there(self) -> bool:
        """Whether the other end has it all."""
        raise NotImplementedError

    def start(self) -> None:
        """Begin to send."""

    def look(self) -> None:
        """Now and then, while it is not there."""

    def known(self) -> bool:
        """Whether the sender was told; asked once it is there."""
        return True

    def run(self, limit: float) -> Run:
        """From the first second of the line."""
        before = self._cpu()
        self._wan.begin()
        began = time.monotonic()
        self.start()
        while not (done := self.there()) and time.monotonic() - began < limit:
            self.look()
            time.sleep(_POLL_SECONDS)
        seconds, inside = time.monotonic() - began, self._wan.inside(self._door)
        carried = self._wan.carried()
        spent = {end: found - before[end] for end, found in self._cpu().items()}
        while not (known := self.known()) and time.monotonic() - began < limit:
            time.sleep(_POLL_SECONDS)
        told = time.monotonic() - began if done and known else None
        up, connections = carried["up"], carried["connections"]
        return Run(done, seconds, up, inside, connections, self._payload, told, spent)

    def _cpu(self) -> dict[str, float]:
        """CPU seconds of each end up to now, with whoever it started."""
        return {end: cpu_seconds(pid, children=True) for end, pid in self.pids().items()}


class Ours(Contender):
    """A hub and a box; records, previews and receipts go over the same line."""

    name = "ours"
    promise = (
        "each chunk synced before its answer, SHA-256 of the whole compared before the receipt;"
        " with records, previews and receipts"
    )

    def __init__(
        self, hub: HubProgram, box: BoxProgram, wan: Wan, files: list[Path], payload: int
    ) -> None:
        super().__init__(wan, hub.https_port, payload)
        self._hub, self._box, self._files = hub, box, files

    def pids(self) -> dict[str, int]:
        return {"box": self._box.pid, "hub": self._hub.pid}

    def start(self) -> None:
        sent = storescu(self._box.dicom_port, self._files)
        if sent.good != self._files:
            raise OSError("the box did not take the study")

    def there(self) -> bool:
        images = self._hub.state / "images"
        return len(list(images.rglob("*.original"))) == len(self._files)

    def known(self) -> bool:
        lanes = (self._box.status() or {"lanes": []})["lanes"]
        return any(lane["lane"] == "images" and lane["waiting"] == 0 for lane in lanes)

    def previews(self) -> int:
        """Bytes of previews that it sends beside the study."""
        folder = self._box.state / "dicom" / "previews"
        return sum(path.stat().st_size for path in folder.glob("*.sealed"))


class Push(Contender):
    """Orthanc to Orthanc."""

    name = "orthanc_peer"
    promise = "files synced, index not; what arrived of a request that was cut is dropped"

    def __init__(self, wan: Wan, door: int, ends: tuple[Orthanc, Orthanc], files: list[Path]):
        super().__init__(wan, door, _size(files))
        self._here, self._hub = ends
        self._count = len(files)
        self._study = self._here.pushes("hub", files)
        self._job = ""

    def pids(self) -> dict[str, int]:
        return {
            "box": self._here.server.pid,
            "hub": self._hub.server.pid,
            "tls": self._hub.tls.pid,
        }

    def start(self) -> None:
        self._job = self._here.push("hub", self._study)

    def look(self) -> None:
        if self._here.state(self._job) == "Failure":
            self._here.again(self._job)

    def there(self) -> bool:
        return self._hub.count() == self._count


class Stow(Contender):
    """dicomweb-client to Orthanc."""

    promise = Push.promise

    def __init__(
        self, name: str, wan: Wan, door: int, ends: tuple[Child, Orthanc], files: list[Path]
    ) -> None:
        super().__init__(wan, door, _size(files))
        self.name = name
        self._client, self._hub = ends
        self._count = len(files)
        self._limit = 0.0

    def pids(self) -> dict[str, int]:
        return {"box": self._client.pid, "hub": self._hub.server.pid, "tls": self._hub.tls.pid}

    def run(self, limit: float) -> Run:
        self._limit = limit
        return super().run(limit)

    def start(self) -> None:
        self._client.send(limit=self._limit)

    def there(self) -> bool:
        return self._hub.count() == self._count


def _is_let_in(port: int) -> bool:
    with association(port) as opened:
        return opened is not None


def _size(files: Sequence[Path]) -> int:
    return sum(path.stat().st_size for path in files)


class Field:
    """Everyone, ready to begin."""

    def __init__(
        self, options: argparse.Namespace, made: Lab, ends: contextlib.ExitStack, files: list[Path]
    ) -> None:
        self._made, self._ends, self._files = made, ends, files
        rate = options.mbits * 1e6 / 8
        self._shape = Shape(rate, options.rtt_ms / 2000, options.up, options.down)
        self.not_measured = list(_NOT_COMPARED)
        self.ours = self._ours()
        self.all: list[Contender] = [self.ours]
        if (why := orthanc.missing()) is None:
            self.all += self._peers()
        else:
            self.not_measured.append(f"all peers: {why}")

    def _wan(self, doors: Mapping[int, int], host: str) -> Wan:
        made = Wan(self._shape, doors, host)
        self._ends.callback(made.close)
        return made

    def _ours(self) -> Ours:
        host = "127.0.0.2"
        hub = self._made.hub(names=[host, "127.0.0.1"]).start().wait()
        wan = self._wan({port: port for port in (hub.https_port, hub.mqtt_port)}, host)
        (port,) = free_ports(1)
        box = self._made.box("BENCH-1", dicom_port=port).start()
        box.enrol(hub)
        box.ask("modalities", "--admit", "CT1@127.0.0.1")
        wait_until("a modality that is let in", lambda: _is_let_in(port))
        return Ours(hub, box, wan, self._files, _size(self._files))

    def _peers(self) -> list[Contender]:
        folder = self._made.folder / "peers"
        folder.mkdir()
        files, found = certificates(folder), list[Contender]()
        for number, name in enumerate(("orthanc_peer", "stow_study", "stow_instance")):
            hub = Orthanc(self._ends, folder / f"{name}-hub", files)
            (door,) = free_ports(1)
            wan = self._wan({door: hub.port}, "127.0.0.1")
            url = f"https://127.0.0.1:{door}/"
            if number == 0:
                here = Orthanc(self._ends, folder / name, files, {"hub": url})
                found.append(Push(wan, door, (here, hub), self._files))
                continue
            where: dict[str, object] = {
                "url": f"{url}dicom-web",
                "ca": str(files.ca),
                "files": list(map(str, self._files)),
                "each": name == "stow_instance",
            }
            client = Child("bench.peers.stow_client", where, folder / f"{name}.log")
            self._ends.callback(client.end)
            found.append(Stow(name, wan, door, (client, hub), self._files))
        return found


def _race(field: Sequence[Contender], limit: float) -> tuple[dict[str, Run], float]:
    """Everyone at once; and cores that strangers kept busy meanwhile."""
    pids = {f"{one.name} {end}": pid for one in field for end, pid in one.pids().items()}
    meter = CpuMeter(pids, families=pids, apart=())
    runs, faults = dict[str, Run](), list[BaseException]()

    def go(one: Contender) -> None:
        try:
            runs[one.name] = one.run(limit)
        except BaseException as error:  # noqa: BLE001 - it is raised in the main thread
            faults.append(error)

    threads = [threading.Thread(target=go, args=(one,)) for one in field]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if faults:
        raise faults[0]
    return runs, meter.read()[1]


def _row(run: Run, promise: str) -> dict[str, Any]:
    return {
        "done": run.done,
        "seconds": round(run.seconds, 1),
        "known_to_sender_s": None if run.known_s is None else round(run.known_s, 1),
        "payload_bytes": run.payload,
        "body_bytes": run.body,
        "body_per_payload": round(run.body / run.payload, 4),
        "wire_bytes": run.wire,
        "wire_per_payload": round(run.wire / run.payload, 4),
        "connections": run.tries,
        "cpu_s": {
            "box": round(run.cpu_s["box"], 2),
            "hub": round(run.cpu_s["hub"] + run.cpu_s.get("tls", 0.0), 2),
        },
        "promise": promise,
    }


def bench(options: argparse.Namespace, made: Lab, ends: contextlib.ExitStack) -> dict[str, Any]:
    """The result as the last line gives it."""
    folder = made.folder / "study"
    folder.mkdir()
    files = study(folder, options.images)
    field = Field(options, made, ends, files)
    syncs = [syncs_per_second(made.folder)]
    runs, strangers = _race(field.all, options.limit)
    syncs.append(syncs_per_second(made.folder))
    previews = field.ours.previews()
    runs["ours"] = runs["ours"]._replace(payload=runs["ours"].payload + previews)
    rows = {one.name: _row(runs[one.name], one.promise) for one in field.all}
    ours = rows.pop("ours") | {"preview_bytes": previews}
    return {
        "bench": "transfer",
        "what": f"{options.images} CT slices over a line of its own each, all at once: "
        f"{options.mbits:g} Mbit/s, {options.rtt_ms:g} ms round trip, cut for"
        f" {options.down:g} s after every {options.up:g} s",
        "ours": {"images": ours},
        "peers": rows,
        "ratios": {
            f"{name}_bytes": round(row["wire_bytes"] / ours["wire_bytes"], 2)
            for name, row in rows.items()
        },
        "table": _table(ours, rows),
        "machine": machine(made.folder, syncs) + f", others {strangers:.2f} cores",
        "not_measured": field.not_measured
        + [
            f"{name}: not done after {row['seconds']:.0f} s, its bytes are those until then"
            for name, row in rows.items()
            if not row["done"]
        ],
    }


_COLUMNS: tuple[tuple[str, Callable[[Mapping[str, Any]], str]], ...] = (
    ("done after s", lambda row: f"{row['seconds']:.1f}" if row["done"] else "not done"),
    ("sender told", lambda row: "-" if (s := row["known_to_sender_s"]) is None else f"{s:.1f}"),
    ("body/payload", lambda row: f"{row['body_per_payload']:.3f}"),
    ("wire/payload", lambda row: f"{row['wire_per_payload']:.3f}"),
    ("connections", lambda row: str(row["connections"])),
    ("CPU s box/hub", lambda row: f"{row['cpu_s']['box']:.1f} / {row['cpu_s']['hub']:.1f}"),
)


def _table(ours: Mapping[str, Any], rows: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    named = [("**ours**", ours), *rows.items()]
    return [
        ["", *(title for title, _ in _COLUMNS)],
        *([name, *(show(row) for _, show in _COLUMNS)] for name, row in named),
    ]


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./do bench transfer", description=__doc__)
    add = parser.add_argument
    add("--images", type=int, default=18, help="of half a megabyte each (%(default)s)")
    add("--mbits", type=float, default=2.0, help="the line, each way (%(default)s)")
    add("--rtt-ms", type=float, default=80.0, help="its round trip (%(default)s)")
    add("--up", type=float, default=10.0, help="seconds between cuts (%(default)s)")
    add("--down", type=float, default=3.0, help="seconds of a cut (%(default)s)")
    add("--limit", type=float, default=120.0, help="seconds until it is given up (%(default)s)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table, and the result as the last line. 1 if ours did not get there."""
    options = _options(arguments)
    with lab() as made, contextlib.ExitStack() as ends:
        result = bench(options, made, ends)
    print(result["what"])
    for row in result["table"]:
        print("  ".join(cell.ljust(16) for cell in row).rstrip())
    print(f"\non {result['machine']}")
    for what in result["not_measured"]:
        print(f"not measured: {what}")
    print(json.dumps(result))
    return 0 if result["ours"]["images"]["done"] else 1


if __name__ == "__main__":
    sys.exit(main())
