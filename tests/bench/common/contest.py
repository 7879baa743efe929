"""A contest: contenders that do the same work in turns, and what became of each turn."""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from .measure import medians


class Turn(NamedTuple):
    """One contender's work once. ``extra`` are further figures of it, to be shown as medians."""

    records: int
    seconds: float
    cpu_us: dict[str, float]
    strangers: float
    extra: Mapping[str, float] = {}

    @property
    def rate(self) -> float:
        """Records a second."""
        return self.records / self.seconds


class Contender(Protocol):
    """A running system that can be given work."""

    name: str

    def turn(self, count: int) -> Turn:
        """Carry ``count`` records from end to end."""

    def check(self) -> dict[str, int]:
        """Over all turns: records put, stored in the database, and duplicates."""


def interleaved(
    field: Iterable[tuple[Contender, int]],
    rounds: int,
    warm_up: int,
    each_round: Callable[[], None],
) -> dict[str, list[Turn]]:
    """Every contender in turn, ``rounds`` times; ``warm_up`` is the part of a turn (1/n) that
    each does once before, uncounted. ``each_round`` is called before each.
    """
    entries = list(field)
    for contender, count in entries:
        contender.turn(max(1, count // warm_up))
    turns: dict[str, list[Turn]] = {contender.name: [] for contender, _ in entries}
    for _ in range(rounds):
        each_round()
        for contender, count in entries:
            turns[contender.name].append(contender.turn(count))
    return turns


def summary(turns: Sequence[Turn], check: Mapping[str, int]) -> dict[str, object]:
    """Medians over the turns, with what the check found."""
    rates = sorted(turn.rate for turn in turns)
    return {
        "records_per_s": round(statistics.median(rates), 1),
        "records_per_s_range": [round(rates[0], 1), round(rates[-1], 1)],
        "records_each_turn": turns[0].records,
        "cpu_us_per_record": medians([turn.cpu_us for turn in turns]),
        "other_load_cores": round(statistics.median(turn.strangers for turn in turns), 2),
        **medians([turn.extra for turn in turns]),
        **check,
    }
