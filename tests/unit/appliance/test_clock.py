"""The box's clock, wherever the system's wakes up."""

from pathlib import Path

import pytest

from lianzhen_edge.appliance.clock import TrustedClock

BUILD_MS = 1_800_000_000_000


class Hand:
    def __init__(self, at: float) -> None:
        self.at = at

    def __call__(self) -> float:
        return self.at


def clock(folder: Path, system: Hand, monotonic: Hand | None = None) -> TrustedClock:
    return TrustedClock(folder, BUILD_MS, system=system, monotonic=monotonic or Hand(5.0))


def test_in_1970_it_starts_at_the_build(tmp_path: Path) -> None:
    assert clock(tmp_path, Hand(0.0)).now() == BUILD_MS / 1000


def test_a_later_system_clock_is_taken(tmp_path: Path) -> None:
    assert clock(tmp_path, Hand(1_900_000_000.0)).now() == 1_900_000_000


def test_it_never_starts_before_the_last_saved_time(tmp_path: Path) -> None:
    first = clock(tmp_path, Hand(1_900_000_000.0))
    first.save()
    assert clock(tmp_path, Hand(0.0)).now() == 1_900_000_000


def test_it_runs_on_the_monotonic_clock_whatever_the_system_says(tmp_path: Path) -> None:
    system, monotonic = Hand(1_900_000_000.0), Hand(5.0)
    made = clock(tmp_path, system, monotonic)
    system.at = 0.0
    monotonic.at += 60.0
    assert made.now() == 1_900_000_060
    assert made.offset == 1_900_000_060


@pytest.mark.parametrize("away", [-400 * 86400, 400 * 86400])
def test_the_hubs_word_moves_it_either_way(tmp_path: Path, away: int) -> None:
    made = clock(tmp_path, Hand(1_900_000_000.0))
    made.learn((1_900_000_000 + away) * 1000)
    assert made.now_ms == (1_900_000_000 + away) * 1000
    made.save()
    assert clock(tmp_path, Hand(0.0)).now() == max(1_900_000_000 + away, BUILD_MS / 1000)


@pytest.mark.parametrize("content", [b"", b"not a number", b"\xff\xfe"])
def test_a_damaged_file_is_as_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "clock").write_bytes(content)
    assert clock(tmp_path, Hand(0.0)).now() == BUILD_MS / 1000
