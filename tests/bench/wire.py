"""Bytes on the wire: what a record costs, and a minute of vital signs, and what the line adds.

Frames are made by the product's own codec. Then a box sends FHIR-like records over a line of real
TCP (tests/bench/common/netline.py), once clean and once with losses; all that the box's packets
weigh, those that were lost too, with IP, TCP, TLS, MQTT, hellos and acknowledgements, is set
against the bytes of its frames. Needs root, for the two networks.
"""

import argparse
import json
import os
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

_TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(_TESTS), str(_TESTS.parent / "deploy")]

from bench.common import fhir  # noqa: E402
from bench.common.measure import machine, syncs_per_second  # noqa: E402
from bench.common.netline import HUB, NetLine, Quality  # noqa: E402
from lab import BoxProgram, Lab, LabError, ask, lab, wait_until  # noqa: E402
from lianzhen_protocol import kinds, records, series  # noqa: E402
from lianzhen_protocol.frame import Frame, FrameCodec  # noqa: E402
from lianzhen_protocol.identity import Epoch, uuid7  # noqa: E402
from lianzhen_protocol.series import Sample, VitalsSeries  # noqa: E402
from lianzhen_protocol.short_frame import MAX_SHORT_BYTES, ShortCodec  # noqa: E402
from lianzhen_protocol.vitals import STREAM as VITALS  # noqa: E402
from lianzhen_protocol.vitals import Measurement, Parameter, VitalsReading  # noqa: E402

_RECORDS = 100
_BATCH = 50
_AT_MS = 1_795_392_000_000
_FIRST = 30_000
"""A frame's first number, as after some weeks of minutes."""
_MOVES = {
    Parameter.RESPIRATION: (16.0, 0.1, 1.0),
    Parameter.SPO2: (97.0, 0.1, 1.0),
    Parameter.SYSTOLIC: (121.0, 0.2, 1.0),
    Parameter.PULSE: (74.0, 0.4, 1.0),
    Parameter.TEMPERATURE: (36.7, 0.05, 0.1),
}
"""First value, how often it moves in a second, by how much."""
_SHAPE = (
    "other shapes: the payload was chosen for some 6 KB; a first one of 8.5 KB with a UUID "
    "for each resource took 609 bytes a record"
)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./do bench wire", description=__doc__)
    add = parser.add_argument
    add("--records", type=int, default=1000, help="over each line (%(default)s)")
    add("--loss", type=float, default=5.0, help="per cent of packets, each way (%(default)s)")
    add("--kbit", type=float, default=2000.0, help="the lines' rate (%(default)s)")
    add("--rtt-ms", type=float, default=50.0, help="the lines' round trip (%(default)s)")
    add("--congestion", default="reno", help="TCP's congestion control (%(default)s)")
    add("--seed", type=int, default=1)
    return parser.parse_args(arguments)


# -- frames


def _whole(stream: str, entries: Sequence[bytes]) -> int:
    frame = Frame(Epoch(bytes(16)), stream, _FIRST, bytes(32), tuple(entries))
    return len(FrameCodec().encode(frame))


def _frame(stream: str, entries: Sequence[bytes]) -> int:
    """As a box sends them for the first time."""
    if sum(map(len, entries)) > MAX_SHORT_BYTES:
        return _whole(stream, entries)
    frame = Frame(Epoch(bytes(16)), stream, _FIRST, bytes(32), tuple(entries))
    return len(ShortCodec().encode(frame))


def _samples(chance: random.Random, count: int = 60, stray_ms: int = 0) -> tuple[Sample, ...]:
    now = {parameter: value for parameter, (value, _, _) in _MOVES.items()}
    rows = []
    for at in range(count):
        for parameter, (_, often, step) in _MOVES.items():
            if chance.random() < often:
                now[parameter] = round(now[parameter] + chance.choice((-step, step)), 1)
        found = tuple(Measurement(parameter=p, value=now[p]) for p in now)
        rows.append(Sample(_AT_MS + at * 1000 + chance.randint(0, stray_ms), 0, found))
    return tuple(rows)


def _series(chance: random.Random, minutes: int = 1, stray_ms: int = 0) -> bytes:
    received = _AT_MS + minutes * 60_000 + 100
    body = VitalsSeries(
        device=chance.randbytes(16),
        received_ms=received,
        samples=series.pack(_samples(chance, minutes * 60, stray_ms), received),
    )
    return kinds.encode(body, uuid7(received, chance.randbytes(10)), received)


def _singly(chance: random.Random) -> list[bytes]:
    patient, device = chance.randbytes(16).hex(), chance.randbytes(16).hex()
    found = []
    for at, (when, _, row) in enumerate(_samples(chance)):
        body = VitalsReading(
            patient_id=patient,
            device_id=device,
            message_id=f"m{at}",
            measurements=row,
            device_ms=when,
            sent_ms=when,
            received_ms=when + 40,
            corrected_ms=when,
        )
        found.append(kinds.encode(body, uuid7(when, chance.randbytes(10)), when))
    return found


def frames(seed: int) -> dict[str, Any]:
    """Bytes of frames, for each record and each device-minute in them."""
    chance = random.Random(seed)
    entries = [fhir.entry(chance)[1] for _ in range(_RECORDS)]
    minutes = {
        f"minute_of_{count}_devices_bytes": round(
            _frame(VITALS, [_series(chance) for _ in range(count)]) / count
        )
        for count in (1, 2, 4, 10)
    }
    return {
        "fhir_record_bytes": round(sum(map(len, entries)) / _RECORDS),
        "fhir_on_the_wire_bytes": round(_frame("record.fhir", entries) / _RECORDS, 1),
        "minute_one_by_one_bytes": _frame(VITALS, _singly(chance)),
        **minutes,
        "minute_of_five_in_a_record_bytes": round(_frame(VITALS, [_series(chance, 5)]) / 5),
        "minute_that_strays_bytes": _frame(VITALS, [_series(chance, stray_ms=10)]),
        "minute_in_a_whole_frame_bytes": _whole(VITALS, [_series(chance)]),
        "minute_alone_is": _parts(chance),
    }


def _parts(chance: random.Random) -> dict[str, int]:
    """Where the bytes of a lone minute go."""
    entry = _series(chance)
    body = kinds.open_body(records.decode(entry))
    assert isinstance(body, VitalsSeries)
    parts = {
        "header": 1 + 4 + 3 + 8,
        "samples": len(body.samples),
        "record_id": 16,
        "device_id": len(body.device),
    }
    return parts | {"times_names_zstd": _frame(VITALS, [entry]) - sum(parts.values())}


# -- the line


def _put(box: BoxProgram, entries: list[bytes]) -> None:
    body = msgspec.msgpack.encode(entries)
    answer = ask(box.state / "control.sock", "POST", "/records?stream=record.fhir", body)
    if answer.status != 201:
        raise LabError(f"the box answers {answer.status}: {answer.body}")


class Ours:
    """A box on a line to its hub."""

    def __init__(self, made: Lab, line: NetLine) -> None:
        self._line = line
        hub = made.hub(listen="0.0.0.0").start().wait()
        self._box = made.box().start()
        self._box.enrol(hub)
        self._box.stop()
        for path in Path(self._box.state, "identity").glob("*/identity.json"):
            path.write_text(path.read_text().replace("127.0.0.1", HUB))
        with line.at_the_box():
            self._box.start()
        wait_until("a box that is online", self._box.online)

    def carry(self, count: int, loss: float, chance: random.Random) -> dict[str, float]:
        """Bytes of records, of frames and of packets while ``count`` records go up."""
        self._line.quality = self._line.quality._replace(loss=loss / 100)
        entries = [fhir.entry(chance)[1] for _ in range(count)]
        frames, carried = self._frame_bytes(), self._line.up_way.carried
        for at in range(0, count, _BATCH):
            _put(self._box, entries[at : at + _BATCH])
        wait_until("a drained box", self._box.drained, 300)
        frames, carried = self._frame_bytes() - frames, self._line.up_way.carried - carried
        return {
            "frames_bytes_per_record": round(frames / count, 1),
            "line_bytes_per_record": round(carried / count, 1),
            "overhead_over_frames": round(carried / frames - 1, 3),
        }

    def _frame_bytes(self) -> int:
        return int(sum(link["frame_bytes"] for link in self._box.status()["links"]))


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and the result as the last line. 1 if a record or a minute is larger than it may."""
    options = _options(arguments)
    if os.geteuid() != 0:
        sys.exit("bench wire: two networks of its own need root")
    found = frames(options.seed)
    print(found, flush=True)
    quality = Quality(options.kbit * 1000, options.rtt_ms / 2000, 0.0, 128 << 10)
    line = NetLine(quality, options.congestion, options.seed)
    try:
        with lab() as made:
            syncs = [syncs_per_second(made.folder)]
            ours, chance = Ours(made, line), random.Random(options.seed + 1)
            lines = {
                f"loss_{loss:g}_percent": ours.carry(options.records, loss, chance)
                for loss in (0.0, options.loss)
            }
            about = machine(made.folder, syncs)
    finally:
        line.close()
    result = {
        "bench": "wire",
        "what": f"FHIR-like bundles of {found['fhir_record_bytes']} bytes as JSON, and minutes of"
        f" five parameters at 1 Hz. Lines: {options.kbit:.0f} kbit/s, {options.rtt_ms:.0f} ms, TCP"
        f" {options.congestion}; bytes of all packets that the box sends",
        "ours": found | lines,
        "peers": {},
        "ratios": {},
        "table": _table(found, lines),
        "machine": about,
        "not_measured": [
            "peers",
            "the hub's packets to the box",
            _SHAPE,
        ],
    }
    print(json.dumps(result))
    small = found["fhir_on_the_wire_bytes"] <= 450 and found["minute_of_1_devices_bytes"] <= 200
    return 0 if small else 1


def _table(found: dict[str, Any], lines: dict[str, dict[str, float]]) -> list[list[str]]:
    rows = [
        ["a record, 100 in a frame", str(found["fhir_on_the_wire_bytes"]), "450"],
        ["a minute as sixty records", str(found["minute_one_by_one_bytes"]), ""],
        *(
            [f"a minute as a series, {count} in a frame",
             str(found[f"minute_of_{count}_devices_bytes"]), "200"]
            for count in (1, 2, 4, 10)
        ),
        ["a minute of one device, five in a record",
         str(found["minute_of_five_in_a_record_bytes"]), "200"],
        ["a minute alone, times that stray by 10 ms", str(found["minute_that_strays_bytes"]), ""],
        ["a minute alone, in a whole frame (an old hub)",
         str(found["minute_in_a_whole_frame_bytes"]), ""],
        *(
            [f"of a minute alone: {name.replace('_', ' ')}", str(size), ""]
            for name, size in found["minute_alone_is"].items()
        ),
    ]  # fmt: skip
    for name, row in lines.items():
        what = name.replace("_", " ")
        rows.append(
            [f"a record in frames as sent, {what}", str(row["frames_bytes_per_record"]), ""]
        )
        rows.append([f"a record on the line, {what}", str(row["line_bytes_per_record"]), ""])
        rows.append([f"overhead over frames, {what}", f"{row['overhead_over_frames']:.1%}", ""])
    return [["", "bytes", "at most"], *rows]


if __name__ == "__main__":
    sys.exit(main())
