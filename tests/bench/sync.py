"""Durable records from the box to the hub: ours against store-and-forward by ready-made brokers.

Everyone carries the same kilobyte records over TLS on loopback into the same kind of database. In
turns, a few rounds, medians; nothing here fails for being slow. A peer is named for what it
promises: "unsynced" acknowledges what is not on the disk yet, and we and the others never do.

Our box takes batches of records, as its own programs hand them over, and the peers single messages.
The ratios "one_by_one" compare a box that is given single records, 100 requests at a time, with the
same peers, 500 messages at a time.
"""

import argparse
import contextlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

_TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(_TESTS), str(_TESTS.parent / "deploy")]

from bench.common.contest import Contender, interleaved, summary  # noqa: E402
from bench.common.measure import machine, syncs_per_second  # noqa: E402
from bench.common.ours import OneByOne, Ours, Pace  # noqa: E402
from bench.peers import bridge, nats_leaf  # noqa: E402
from bench.peers.peer import Peer  # noqa: E402
from lab import Lab, Postgres, lab  # noqa: E402

_WARM_UP = 10
_NOT_COMPARED = (
    "latency and bytes on the wire of the peers",
    "a real network between box and hub (loopback only: no delay, no loss)",
    "many boxes at one hub",
)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./do bench sync", description=__doc__)
    add = parser.add_argument
    add("--rounds", type=int, default=3, help="turns of each contender (%(default)s)")
    add("--records", type=int, default=20_000, help="ours, each turn (%(default)s)")
    add("--one-by-one", type=int, default=3000, help="ours one by one, each turn (%(default)s)")
    add("--batch", type=int, default=100, help="ours: records in one request (%(default)s)")
    add("--in-flight", type=int, default=8, help="ours: requests at a time (%(default)s)")
    add("--alone", type=int, default=200, help="records for the latency (%(default)s)")
    add("--bridge-records", type=int, default=1500, help="bridge, each turn (%(default)s)")
    add("--nats-records", type=int, default=2000, help="NATS, each turn (%(default)s)")
    add("--unsynced-records", type=int, default=5000, help="peers unsynced (%(default)s)")
    add("--single", type=int, default=100, help="one by one: requests at a time (%(default)s)")
    add("--window", type=int, default=500, help="peers: unacknowledged messages (%(default)s)")
    add("--no-postgresql", action="store_true", help="SQLite only")
    add("--no-peers", action="store_true", help="ours only")
    add("--peer-database", choices=("sqlite", "postgresql"), default="sqlite")
    options = parser.parse_args(arguments)
    if options.no_postgresql and options.peer_database == "postgresql":
        parser.error("the peers cannot use PostgreSQL with --no-postgresql")
    return options


class Bench:
    """One run in one lab."""

    def __init__(self, options: argparse.Namespace, made: Lab, ends: contextlib.ExitStack) -> None:
        self._options = options
        self._lab = made
        self._ends = ends
        self.not_measured = list(_NOT_COMPARED)
        self._postgres = None if options.no_postgresql else made.postgres()
        self.ours = [self._ours(None)]
        if self._postgres is not None:
            self.ours.append(self._ours(self._postgres))
        else:
            self.not_measured.append("PostgreSQL (--no-postgresql)")
        compared = next(one for one in self.ours if one.name == options.peer_database)
        self.singly = OneByOne(compared, options.single)
        self.peers = [] if options.no_peers else list(self._peers())

    def _ours(self, postgres: Postgres | None) -> Ours:
        made = Ours(self._lab, postgres, Pace(self._options.batch, self._options.in_flight))
        self._ends.callback(made.end)
        return made

    def _peers(self) -> list[tuple[Peer, int]]:
        options, found = self._options, []
        kinds: list[tuple[Any, bool, int]] = [
            (bridge, True, options.bridge_records),
            (nats_leaf, True, options.nats_records),
            (bridge, False, options.unsynced_records),
            (nats_leaf, False, options.unsynced_records),
        ]
        for number, (kind, durable, count) in enumerate(kinds):
            name = kind.__name__.rpartition(".")[2] + ("" if durable else " unsynced")
            if (why := kind.missing()) is not None:
                self.not_measured.append(f"{name}: {why}")
                continue
            folder = self._lab.folder / f"peer-{number}"
            folder.mkdir()
            try:
                peer = kind.start(
                    self._ends,
                    folder,
                    self._database(folder),
                    durable=durable,
                    window=options.window,
                )
            except OSError as error:
                self.not_measured.append(f"{name}: {error}")
                continue
            found.append((peer, count))
        return found

    def _database(self, folder: Path) -> str:
        if self._options.peer_database == "sqlite" or self._postgres is None:
            return f"sqlite:///{folder}/sink.db"
        return self._postgres.url

    def run(self) -> dict[str, Any]:
        """The result as the last line gives it."""
        options, folder, syncs = self._options, self._lab.folder, list[float]()
        field: list[tuple[Contender, int]] = [(one, options.records) for one in self.ours]
        field += [(self.singly, options.one_by_one), *self.peers]
        turns = interleaved(
            field, options.rounds, _WARM_UP, lambda: syncs.append(syncs_per_second(folder))
        )
        everyone: list[Ours | OneByOne] = [*self.ours, self.singly]
        alone = {one.name: one.alone(options.alone) for one in self.ours if options.alone}
        ours = {
            one.name: summary(turns[one.name], one.check()) | alone.get(one.name, {})
            for one in everyone
        }
        peers = {
            peer.name: summary(turns[peer.name], peer.check())
            | {"promise": _PROMISES[peer.name], "database": options.peer_database}
            for peer, _ in self.peers
        }
        return {
            "bench": "sync",
            "ours": ours,
            "peers": peers,
            "ratios": _ratios(ours[options.peer_database], peers)
            | _ratios(ours[self.singly.name], peers, "_one_by_one"),
            "machine": machine(folder, syncs),
            "not_measured": self.not_measured,
        }


def _ratios(
    ours: Mapping[str, Any], peers: Mapping[str, Mapping[str, Any]], figure: str = ""
) -> dict[str, float]:
    return {
        name + figure: round(ours["records_per_s"] / found["records_per_s"], 2)
        for name, found in peers.items()
    }


_PROMISES: Mapping[str, str] = {
    "mosquitto_bridge": "box's store saved and synced at every change, just after its PUBACK;"
    " hub's broker in memory only",
    "mosquitto_bridge_unsynced": "none: nothing of the box's store is on the disk before shutdown",
    "nats_leaf": "every write of the box's store synchronous; hub's stream not synced",
    "nats_leaf_unsynced": "none: the box's store is synced every two minutes",
}

_COLUMNS: tuple[tuple[str, Callable[[Mapping[str, Any]], object]], ...] = (
    ("records/s", lambda row: f"{row['records_per_s']:.0f}"),
    ("range", lambda row: "-".join(f"{rate:.0f}" for rate in row["records_per_s_range"])),
    ("a turn", lambda row: row["records_each_turn"]),
    ("stored/put", lambda row: f"{row['stored']}/{row['put']}"),
    ("twice", lambda row: row["duplicates"]),
    ("CPU us a record", lambda row: _pairs(row["cpu_us_per_record"])),
    ("wire B", lambda row: row.get("wire_bytes_per_record", "-")),
    ("put p50/p99 ms", lambda row: _spread(row.get("put_ms"))),
    ("commit p50/p99 ms", lambda row: _spread(row.get("commit_ms"))),
    ("others", lambda row: f"{row['other_load_cores']:.2f} cores"),
)


def _pairs(found: Mapping[str, float]) -> str:
    return " ".join(f"{name} {value:.0f}" for name, value in found.items())


def _spread(found: Mapping[str, float] | None) -> str:
    return "-" if found is None else f"{found['p50']:.1f}/{found['p99']:.1f}"


def _table(result: Mapping[str, Any]) -> str:
    rows = [["", *(title for title, _ in _COLUMNS)]]
    named = [(f"ours, {name}", row) for name, row in result["ours"].items()]
    for name, row in [*named, *result["peers"].items()]:
        rows.append([name, *(str(show(row)) for _, show in _COLUMNS)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table, and the result as the last line. 1 if anything was lost."""
    options = _options(arguments)
    with lab() as made, contextlib.ExitStack() as ends:
        result = Bench(options, made, ends).run()
    print(_table(result))
    print(f"\non {result['machine']}")
    for name, promise in _PROMISES.items():
        if name in result["peers"]:
            print(f"{name}: {promise}")
    for what in result["not_measured"]:
        print(f"not measured: {what}")
    print(json.dumps(result))
    rows = [*result["ours"].values(), *result["peers"].values()]
    return 0 if all(row["stored"] == row["put"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
