"""A CT sent to three receivers in turns: images a second that are durable, and what they cost.

The same sender, dcmtk's storescu with TCP_NODELAY, sends the same slices under new UIDs each time,
once in one association and once in four. Exit status 1 if a receiver has lost an image.
"""

import argparse
import contextlib
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

_TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(_TESTS), str(_TESTS.parent / "deploy")]

import psutil  # noqa: E402
import pydicom  # noqa: E402
from pydicom.uid import generate_uid  # noqa: E402

from bench.common.measure import machine, syncs_per_second  # noqa: E402
from bench.common.study import study  # noqa: E402
from bench.peers.receivers import Orthanc, Ours, Receiver, StoreScp, send  # noqa: E402
from lab import wait_until  # noqa: E402

ASSOCIATIONS = (1, 4)
_NOT_COMPARED = (
    "what the box's core does with an image afterwards: journal, previews, upload",
    "a network: sender and receiver share this machine's cores",
    "Orthanc's index, which is not synced for each image",
)


class Turn(NamedTuple):
    """One study, once."""

    images_per_s: float
    cpu_ms: float
    strangers: float


class Slices:
    """A study in memory, given other UIDs for each turn: nobody may say that he has it."""

    def __init__(self, folder: Path, count: int) -> None:
        self.paths = study(folder, count)
        self._uids = [_uid_of(path) for path in self.paths]
        self._study = _uid_of(self.paths[0], keyword="StudyInstanceUID")

    def renew(self) -> list[Path]:
        """The files, with UIDs that nobody has seen."""
        new_study = _like(self._study)
        for number, path in enumerate(self.paths):
            uid, content = self._uids[number], path.read_bytes()
            self._uids[number] = new = _like(uid)
            content = content.replace(uid, new).replace(self._study, new_study)
            path.write_bytes(content)
        self._study = new_study
        return self.paths


def _uid_of(path: Path, keyword: str = "SOPInstanceUID") -> bytes:
    found = pydicom.dcmread(path, stop_before_pixels=True)
    return str(found[keyword].value).encode()


def _like(uid: bytes) -> bytes:
    """A new UID that is as long."""
    new: str = generate_uid()
    return new.ljust(len(uid), "1")[: len(uid)].encode()


def turn(receiver: Receiver, slices: Slices, associations: int) -> Turn:
    """Send everything, and see that it is there."""
    paths = slices.renew()
    receiver.clear()
    lists = [paths[at::associations] for at in range(associations)]
    os.sync()
    before, busy = receiver.cpu_s(), _busy()
    seconds = send(receiver.port, lists)
    strangers = (_busy() - busy) / seconds
    wait_until(f"all of it at {receiver.name}", lambda: receiver.count() >= len(paths))
    receiver.settle()
    if receiver.count() != len(paths):
        raise OSError(f"{receiver.name} has another number of images than were sent")
    cpu = receiver.cpu_s() - before
    return Turn(len(paths) / seconds, cpu / len(paths) * 1000, strangers)


def _busy() -> float:
    found = psutil.cpu_times()
    return float(found.user + found.nice + found.system + found.irq + found.softirq)


def _row(turns: Mapping[int, Sequence[Turn]], receiver: Receiver) -> dict[str, Any]:
    found: dict[str, Any] = {"rss_mb": round(receiver.peak_mb(), 1), "promise": receiver.promise}
    for associations, each in turns.items():
        rates = sorted(one.images_per_s for one in each)
        found |= {
            f"images_per_s_{associations}": round(statistics.median(rates), 1),
            f"images_per_s_{associations}_range": [round(rates[0], 1), round(rates[-1], 1)],
            f"cpu_ms_{associations}": round(statistics.median(one.cpu_ms for one in each), 3),
        }
    found["busy_cores"] = round(
        statistics.median(one.strangers for each in turns.values() for one in each), 2
    )
    return found


def _ratios(turns: Mapping[str, Mapping[int, Sequence[Turn]]]) -> dict[str, float]:
    """Medians over the rounds of ours against a peer in the same round."""
    ours, found = turns["ours"], dict[str, float]()
    for name in turns.keys() - {"ours"}:
        for associations in ASSOCIATIONS:
            pairs = zip(ours[associations], turns[name][associations], strict=True)
            rates = [own.images_per_s / peer.images_per_s for own, peer in pairs]
            suffix = "" if associations == 1 else f"_{associations}"
            found[f"{name}{suffix}"] = round(statistics.median(rates), 2)
        pairs = zip(ours[1], turns[name][1], strict=True)
        found[f"{name}_cpu"] = round(statistics.median(p.cpu_ms / o.cpu_ms for o, p in pairs), 2)
    return dict(sorted(found.items()))


def bench(options: argparse.Namespace, ends: contextlib.ExitStack) -> dict[str, Any]:
    """The result as the last line gives it."""
    folder = Path(ends.enter_context(tempfile.TemporaryDirectory(prefix="lianzhen-ingest-")))
    memory = Path(ends.enter_context(tempfile.TemporaryDirectory(dir="/dev/shm")))
    slices = Slices(memory, options.images)
    field = [
        made(folder / made.name, ends, options.sync_delay_ms) for made in (Ours, StoreScp, Orthanc)
    ]
    turns: dict[str, dict[int, list[Turn]]] = {
        each.name: {associations: [] for associations in ASSOCIATIONS} for each in field
    }
    for each in field:
        turn(each, slices, 1)  # warm-up
    syncs = list[float]()
    for number in range(options.rounds):
        syncs.append(syncs_per_second(folder, 0.2))
        for associations in ASSOCIATIONS:
            for each in field[number % 3 :] + field[: number % 3]:
                turns[each.name][associations].append(turn(each, slices, associations))
    rows = {each.name: _row(turns[each.name], each) for each in field}
    ours = rows.pop("ours")
    delay, late, name = options.sync_delay_ms, "", "ingest"
    if delay:
        floor = 1000 / (delay + 1000 / statistics.median(syncs))
        late = f", every sync {delay} ms later: with one for each image, and a request only after"
        late += f" the answer to the last, no association could have more than {floor:.0f} images/s"
        name += f" --sync-delay-ms {delay}"
    return {
        "bench": name,
        "what": f"{options.images} CT slices of 512 x 512 x 16 with noise, no two equal, by"
        f" storescu with TCP_NODELAY from memory; {options.rounds} rounds in turns{late}",
        "ours": {"images": ours},
        "peers": rows,
        "ratios": _ratios(turns),
        "table": _table(ours, rows),
        "machine": machine(folder, syncs),
        "not_measured": list(_NOT_COMPARED),
    }


def _table(ours: Mapping[str, Any], rows: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    titles = ["", "images/s, 1 association", "range", "4 associations", "range"]
    titles += ["CPU ms each, 1 / 4", "peak RSS MB", "busy cores"]
    return [titles] + [
        [
            name,
            *(
                cell
                for count in ASSOCIATIONS
                for cell in (
                    f"{row[f'images_per_s_{count}']:.0f}",
                    "–".join(f"{each:.0f}" for each in row[f"images_per_s_{count}_range"]),
                )
            ),
            f"{row['cpu_ms_1']:.2f} / {row['cpu_ms_4']:.2f}",
            f"{row['rss_mb']:.0f}",
            f"{row['busy_cores']:.1f}",
        ]
        for name, row in [("**ours**", ours), *rows.items()]
    ]


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./do bench ingest", description=__doc__)
    add = parser.add_argument
    add("--images", type=int, default=300, help="slices of half a megabyte (%(default)s)")
    add("--rounds", type=int, default=3, help="of all receivers in turns (%(default)s)")
    add("--sync-delay-ms", type=int, default=0, help="a slower disk (%(default)s)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table, and the result as the last line."""
    with contextlib.ExitStack() as ends:
        result = bench(_options(arguments), ends)
    print(result["what"])
    for row in result["table"]:
        print("  ".join(cell.ljust(16) for cell in row).rstrip())
    print(f"\non {result['machine']}")
    for what in result["not_measured"]:
        print(f"not measured: {what}")
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
