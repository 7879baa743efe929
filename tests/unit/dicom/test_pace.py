"""How much is on the way: by what the line carries, so that nothing waits long behind it."""

import socket

import pytest

from lianzhen_edge.dicom.pace import MAX_CHUNK_BYTES, MIN_CHUNK_BYTES, QUEUE_SECONDS, Pace


def used(pace: Pace, rate: float, trip: float, chunks: int = 40) -> None:
    """A line of ``rate`` bytes a second and ``trip`` seconds, with what the buffer allows of it."""
    for _ in range(chunks):
        pace.asked(trip)
        size = pace.chunk
        pace.took(size, trip + size / min(rate, pace.buffer / trip))


@pytest.mark.parametrize("rate", [8e3, 62.5e3, 250e3, 12.5e6])
@pytest.mark.parametrize("trip", [0.02, 0.08, 0.3, 0.7])
def test_a_line_is_filled_and_its_queue_is_not(rate: float, trip: float) -> None:
    pace = Pace(1)
    used(pace, rate, trip)
    fills = min(rate * trip, 0.3 * MAX_CHUNK_BYTES)
    assert pace.buffer >= 0.7 * fills  # what is acknowledged late holds nobody up
    queued = max(0.0, pace.buffer - rate * trip)
    assert queued <= max(1.05 * QUEUE_SECONDS * rate, MIN_CHUNK_BYTES)
    assert MIN_CHUNK_BYTES <= pace.chunk <= MAX_CHUNK_BYTES


def test_small_ones_say_nothing_of_the_rate() -> None:
    pace = Pace(2)
    used(pace, 250e3, 0.08)
    before = pace.chunk
    for _ in range(100):
        pace.took(18_000, 0.2)
    assert pace.chunk == before


def test_no_answer_in_time_makes_chunks_smaller_down_to_the_least() -> None:
    pace = Pace(1)
    used(pace, 250e3, 0.08)
    before = pace.chunk
    pace.slow()
    assert pace.chunk < before
    for _ in range(30):
        pace.slow()
    assert pace.chunk == MIN_CHUNK_BYTES


def test_sockets_hold_no_more_than_that_also_when_it_changes() -> None:
    pace = Pace(1)
    made = pace.new_socket((socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 1)))
    with made:
        before = pace.buffer
        assert made.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) <= before
        used(pace, 1e6, 0.3)
        assert pace.buffer > before
        held = made.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        assert 0.5 * pace.buffer <= held <= pace.buffer  # the system may allow less
    pace.took(pace.chunk, 1.0)  # nor does one that is closed do harm


def test_connections_share_what_may_be_on_the_way() -> None:
    pace = Pace(4)
    used(pace, 1e9, 0.05)
    assert 4 * pace.chunk <= MAX_CHUNK_BYTES
    assert 4 * pace.buffer <= MAX_CHUNK_BYTES
