"""Ours in a contest: a hub, an enrolled box and the load generator, all real programs."""

from typing import Any, NamedTuple

from lab import Lab, Postgres

from .child import Child
from .contest import Turn
from .hub_view import HubView
from .load import STREAM
from .measure import CpuMeter, micros_each


class Pace(NamedTuple):
    """How the load comes: records in a request, and requests under way."""

    batch: int
    in_flight: int


class Ours:
    """Over SQLite, or over ``postgres``."""

    def __init__(self, lab: Lab, postgres: Postgres | None, pace: Pace) -> None:
        self.name = "sqlite" if postgres is None else "postgresql"
        self._postgres = postgres
        self._pace = pace
        self._put = 0
        self._hub = lab.hub(f"hub-{self.name}", None if postgres is None else postgres.url)
        self._box = lab.box(f"BENCH-{self.name.upper()}")
        self._hub.start().wait()
        self._box.start().enrol(self._hub)
        self._url = f"sqlite:///{self._hub.state}/hub.db" if postgres is None else postgres.url
        self._load = Child(
            "bench.common.load",
            {
                "socket": str(self._box.state / "control.sock"),
                "database": self._url,
            },
            lab.folder / f"load-{self.name}.log",
        )

    def turn(self, count: int) -> Turn:
        """From the first put until the journal is empty: durable, committed, acknowledged."""
        return self.carry(count, self._pace)

    def carry(self, count: int, pace: Pace) -> Turn:
        """A turn at a pace of its own."""
        pids = {"edge": self._box.pid, "broker": self._hub.broker_pid(), "hub": self._hub.pid}
        if self._postgres is not None:
            pids["database"] = self._postgres.pid
        sent = self._sent_bytes()
        meter = CpuMeter(pids, families=("database",), apart=(self._load.pid,))
        found = self._load.ask(put=count, batch=pace.batch, in_flight=pace.in_flight)
        spent, strangers = meter.read()
        self._put += count
        extra = {
            "wire_bytes_per_record": (self._sent_bytes() - sent) / count,
            "stored_at_box_per_s": count / found["stored"],
            "applied_at_hub_per_s": count / found["applied"],
        }
        return Turn(count, found["drained"], micros_each(spent, count), strangers, extra)

    def alone(self, count: int) -> Any:
        """Milliseconds of a lone record on an idle system."""
        self._put += count
        return self._load.ask(alone=count)

    def check(self) -> dict[str, int]:
        """What the hub's own tables say of all that was put."""
        view = HubView(self._url, STREAM)
        try:
            applied, logged = view.applied(), view.logged()
        finally:
            view.close()
        return {"put": self._put, "stored": applied, "duplicates": logged - applied}

    def end(self) -> None:
        """End the load generator; the lab ends the rest."""
        self._load.end()

    def _sent_bytes(self) -> int:
        return sum(link["frame_bytes"] for link in self._box.status()["links"])


class OneByOne:
    """The same box, put to one record at a time as the peers are; many requests are under way."""

    def __init__(self, ours: Ours, in_flight: int) -> None:
        self.name = f"{ours.name}_one_by_one"
        self._ours = ours
        self._pace = Pace(1, in_flight)

    def turn(self, count: int) -> Turn:
        """As ``Ours.turn``."""
        return self._ours.carry(count, self._pace)

    def check(self) -> dict[str, int]:
        """Of the box, whoever put the records."""
        return self._ours.check()
