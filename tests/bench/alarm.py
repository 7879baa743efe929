"""How long an alarm takes from the box's disk to the hub's, behind a backlog and a study.

A box that holds a backlog of records and a study sends both over a bad line: real TCP of the
kernel over a link in user space with a rate, a delay, a loss of packets and a router's queue
(tests/bench/common/netline.py). Alarms are put at random times; each is measured from the box's
answer, when it is on its disk, until the hub has committed it.

Beside it, over the same line in the same run: a mosquitto bridge, which is one queue. Its backlog
is smaller, or its alarms would not arrive in the run: behind more of it they wait longer in
proportion. The line's quality is that of both directions. Needs root, for the two networks.
"""

import argparse
import contextlib
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

_TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(_TESTS), str(_TESTS.parent / "deploy")]

from bench.common.hub_view import HubView  # noqa: E402
from bench.common.measure import machine, percentile, syncs_per_second  # noqa: E402
from bench.common.netline import HUB, NetLine, Quality  # noqa: E402
from bench.common.payload import entry  # noqa: E402
from bench.peers.peer import Server, program  # noqa: E402
from lab import BoxProgram, Lab, LabError, ask, free_ports, lab, wait_until  # noqa: E402
from support.modality import DCMTK, series  # noqa: E402

ALARMS, BACKLOG = "alarm.bench", "record.bench"
_SLICE_SIDE = 512
_SLICE_BYTES = _SLICE_SIDE * _SLICE_SIDE * 2
_BATCH = 1000
_MOST_FILES = 40


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./do bench alarm", description=__doc__)
    add = parser.add_argument
    add("--backlog", type=int, default=30_000, help="records of 1 KB before it (%(default)s)")
    add("--study-mb", type=int, default=40, help="megabytes of images before it (%(default)s)")
    add("--alarms", type=int, default=60, help="(%(default)s)")
    add("--every", type=float, default=1.0, help="mean seconds between alarms (%(default)s)")
    add("--kbit", type=float, default=500.0, help="the line's rate (%(default)s)")
    add("--rtt-ms", type=float, default=300.0, help="the empty line's round trip (%(default)s)")
    add("--loss", type=float, default=2.0, help="per cent of packets, each way (%(default)s)")
    add("--queue-kb", type=int, default=64, help="the slowest link's queue (%(default)s)")
    add("--congestion", default="reno", help="TCP's congestion control (%(default)s)")
    add("--peer-backlog", type=int, default=1500, help="records before the peer's alarms")
    add("--no-peer", action="store_true")
    add("--full", action="store_true", help="a million records, a gigabyte and 1,000 alarms")
    add("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    if options.full:
        options.backlog, options.study_mb, options.alarms = 1_000_000, 1024, 1000
    return options


class Watch:
    """When the hub committed each alarm: the mark moves over them in order."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self.committed_at: list[float] = []
        self._ending = False
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        view = HubView(f"sqlite:///{self._database}", ALARMS)
        while not self._ending:
            count, now = view.committed(), time.monotonic()
            self.committed_at += [now] * (count - len(self.committed_at))
            time.sleep(0.004)
        view.close()

    def end(self) -> None:
        """Look no more."""
        self._ending = True
        self._thread.join()


def summary(seconds: Sequence[float]) -> dict[str, float]:
    """Milliseconds."""
    ordered = sorted(seconds)
    found = {f"p{percent}": percentile(ordered, percent) for percent in (50, 99)}
    return {name: round(value * 1000) for name, value in (found | {"max": ordered[-1]}).items()}


class Ours:
    """Hub and box, each in its own network."""

    def __init__(self, made: Lab, line: NetLine, options: argparse.Namespace) -> None:
        self._line, self._options = line, options
        self._folder = made.folder
        self._hub = made.hub(listen="0.0.0.0").start().wait()
        (dicom,) = free_ports(1)
        self._box = made.box("BOX-1", dicom_port=dicom).start()
        self._box.enrol(self._hub)
        self._box.stop()
        for path in Path(self._box.state, "identity").glob("*/identity.json"):
            path.write_text(path.read_text().replace("127.0.0.1", HUB))

    def fill(self) -> dict[str, float]:
        """The box is off the line, and gets all that its alarms will stand behind."""
        self._line.down = True
        self._restart()
        began = time.monotonic()
        _fill(self._box, self._options.backlog)
        records = time.monotonic() - began
        self._box.ask("modalities", "--admit", "CT1@127.0.0.1")
        images = self._study()
        began = time.monotonic()
        self._box.stop()
        self._restart()
        started = time.monotonic() - began
        return {"fill_s": round(records, 1), "images": images, "restart_s": round(started, 2)}

    def _restart(self) -> None:
        with self._line.at_the_box():
            self._box.start()
        wait_until("a box that answers", lambda: self._box.status() is not None)

    def _study(self) -> int:
        count = int(self._options.study_mb) * 1_000_000 // _SLICE_BYTES
        for at in range(0, count, _MOST_FILES):
            folder = self._folder / "study"
            folder.mkdir()
            files = series(folder, min(_MOST_FILES, count - at), _SLICE_SIDE)
            command = [
                str(DCMTK / "storescu"),
                "-aet",
                "CT1",
                "127.0.0.1",
                str(self._box.dicom_port),
            ]
            with self._line.at_the_box():
                subprocess.run([*command, *map(str, files)], check=True, capture_output=True)
            for file in files:
                file.unlink()
            folder.rmdir()
        return count

    def run(self) -> dict[str, Any]:
        """Alarms at random times while the line is full."""
        options, chance = self._options, random.Random(self._options.seed)
        self._line.down = False
        wait_until("a box that is online", self._box.online)
        wait_until("a backlog under way", lambda: self._behind(BACKLOG) < options.backlog)
        time.sleep(15)  # until sessions and congestion windows have found their pace
        watch = Watch(self._hub.state / "hub.db")
        up, before = self._line.up_way.passed, time.monotonic()
        put, stored = [], []
        try:
            for _ in range(options.alarms):
                time.sleep(chance.expovariate(1 / options.every))
                began = time.monotonic()
                _put(self._box, ALARMS, [entry()[1]])
                put.append(time.monotonic())
                stored.append(put[-1] - began)
            wait_until("every alarm", lambda: len(watch.committed_at) == options.alarms, 120)
        finally:
            watch.end()
        seconds = time.monotonic() - before
        took = [end - start for start, end in zip(put, watch.committed_at, strict=True)]
        passed = self._line.up_way.passed - up
        left = self._behind(BACKLOG)
        if left <= 0:
            raise LabError("the backlog was gone before the last alarm: give it more")
        return {
            "commit_ms": summary(took),
            "put_ms": summary(stored),
            "alarms": len(took),
            "under_2_s": sum(one < 2 for one in took),
            "line_used": round(passed * 8 / seconds / self._line.quality.rate, 2),
            "backlog_left": left,
            "image_bytes_under_way": self._images(),
        }

    def _images(self) -> int:
        found = self._hub.state / "images"
        return sum(path.stat().st_size for path in found.rglob("*") if path.is_file())

    def _behind(self, stream: str) -> int:
        rows = self._box.status()["streams"]
        behind = [row["last"] - row["committed"] for row in rows if row["stream"] == stream]
        return int(sum(behind))


def _put(box: BoxProgram, stream: str, entries: list[bytes]) -> None:
    body = msgspec.msgpack.encode(entries)
    answer = ask(box.state / "control.sock", "POST", f"/records?stream={stream}", body)
    if answer.status != 201:
        raise LabError(f"the box answers {answer.status}: {answer.body}")


def _fill(box: BoxProgram, count: int) -> None:
    for at in range(0, count, _BATCH):
        _put(box, BACKLOG, [entry()[1] for _ in range(min(_BATCH, count - at))])


# -- the peer


class Bridge:
    """Two mosquittos with a bridge between, without TLS and without anything on the disk: both in
    its favour. What is published at the box waits in the bridge's one queue.
    """

    def __init__(self, ends: contextlib.ExitStack, folder: Path, line: NetLine) -> None:
        self._line = line
        hub_port, edge_port = free_ports(2)
        limits = "allow_anonymous true\nmax_queued_messages 0\nset_tcp_nodelay true\n"
        owner = "user root\n"
        self._server(ends, folder / "peer-hub", hub_port, f"{owner}listener {hub_port}\n{limits}")
        with line.at_the_box():
            bridge = (
                f"connection hub\naddress {HUB}:{hub_port}\ntopic bench/# out 1\n"
                "cleansession false\nnotifications false\nrestart_timeout 1\n"
                "bridge_protocol_version mqttv50\n"
            )
            edge = f"{owner}listener {edge_port}\n{limits}max_inflight_messages 1000\n{bridge}"
            self._server(ends, folder / "peer-edge", edge_port, edge)
        self._arrived: dict[bytes, float] = {}
        self._reader = self._client(ends, hub_port)
        self._reader.on_message = lambda _c, _d, message: self._arrive(bytes(message.payload))
        self._reader.subscribe("bench/#", qos=1)
        with line.at_the_box():
            self._writer = self._client(ends, edge_port)

    @staticmethod
    def _server(ends: contextlib.ExitStack, folder: Path, port: int, text: str) -> None:
        folder.mkdir()
        (folder / "mosquitto.conf").write_text(text)
        command = (program("mosquitto") or "mosquitto", "-c", "mosquitto.conf")
        ends.callback(Server(command, folder, port).end)

    @staticmethod
    def _client(ends: contextlib.ExitStack, port: int) -> paho.Client:
        made = paho.Client(CallbackAPIVersion.VERSION2)
        made.max_inflight_messages_set(1000)
        made.connect("127.0.0.1", port)
        made.loop_start()
        ends.callback(made.loop_stop)
        return made

    def _arrive(self, payload: bytes) -> None:
        self._arrived.setdefault(payload, time.monotonic())

    def run(self, backlog: int, alarms: int, every: float) -> dict[str, Any]:
        """The backlog is put at once, and then alarms; seconds until each is at the hub."""
        self._line.down = True
        for _ in range(backlog):
            last = self._writer.publish("bench/record", entry()[1], qos=1)
        last.wait_for_publish(60)
        self._line.down = False
        sent: dict[bytes, float] = {}
        for _ in range(alarms):
            body = entry()[1]
            self._writer.publish("bench/alarm", body, qos=1).wait_for_publish(60)
            sent[body] = time.monotonic()
            time.sleep(every)
        began = min(sent.values())
        wait_until("the peer's alarms", lambda: sent.keys() <= self._arrived.keys(), 300)
        took = [self._arrived[body] - at for body, at in sent.items()]
        drained = max(self._arrived.values()) - began
        return {
            "commit_ms": summary(took),
            "alarms": alarms,
            "backlog": backlog,
            "records_per_s": round((backlog + alarms) / drained, 1),
            "promise": "none: nothing is on a disk, and what has arrived counts",
        }


@contextlib.contextmanager
def _line(options: argparse.Namespace) -> Iterator[NetLine]:
    quality = Quality(
        options.kbit * 1000, options.rtt_ms / 2000, options.loss / 100, options.queue_kb << 10
    )
    made = NetLine(quality, options.congestion, options.seed)
    try:
        yield made
    finally:
        made.close()


def _table(
    options: argparse.Namespace, found: dict[str, Any], peers: dict[str, Any]
) -> list[list[str]]:
    rows = [("**ours**", found | {"backlog": options.backlog}), *peers.items()]
    return [
        ["disk to hub", "alarms", "behind records", "p50 ms", "p99 ms", "max ms", "line used"],
        *(
            [name, str(row["alarms"]), str(row["backlog"]), *map(str, row["commit_ms"].values()),
             str(row.get("line_used", "–"))]
            for name, row in rows
        ),
    ]  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and the result as the last line. 1 if p99 is not under two seconds."""
    options = _options(arguments)
    if os.geteuid() != 0:
        sys.exit("bench alarm: two networks of its own need root")
    with _line(options) as line, lab() as made, contextlib.ExitStack() as ends:
        syncs = [syncs_per_second(made.folder)]
        ours = Ours(made, line, options)
        filled = ours.fill()
        print(f"filled: {filled}", flush=True)
        found = ours.run()
        print(f"ours: {found}", flush=True)
        peers: dict[str, Any] = {}
        if not options.no_peer:
            made.__exit__()
            bridge = Bridge(ends, made.folder, line)
            peers["mosquitto_bridge"] = bridge.run(options.peer_backlog, 5, options.every)
        result = {
            "bench": "alarm",
            "what": f"Line: {options.kbit:.0f} kbit/s, {options.rtt_ms:.0f} ms around,"
            f" {options.loss:.1f} % of packets lost each way, a queue of {options.queue_kb} KB, TCP"
            f" {options.congestion}. Behind {options.backlog} records of 1 KB and"
            f" {options.study_mb} MB of images",
            "ours": filled | found,
            "peers": peers,
            "table": _table(options, found, peers),
            "ratios": {
                f"{name}, p50": round(row["commit_ms"]["p50"] / found["commit_ms"]["p50"], 1)
                for name, row in peers.items()
            },
            "machine": machine(made.folder, syncs),
            "not_measured": ["the peer behind as much as ours: it would take hours"],
        }
    print(json.dumps(result))
    return 0 if found["commit_ms"]["p99"] < 2000 else 1


if __name__ == "__main__":
    sys.exit(main())
