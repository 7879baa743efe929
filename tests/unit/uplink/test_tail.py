"""The last small frame goes once more, and nothing else does."""

from lianzhen_edge.uplink.tail import TAIL_BYTES, TAIL_SECONDS, Copy, Tail

SMALL, LARGE = b"s" * TAIL_BYTES, b"l" * (TAIL_BYTES + 1)


def test_what_nothing_followed_goes_once_more() -> None:
    tail = Tail()
    tail.sent("alarm", SMALL, 5.0)
    assert tail.due == 5.0 + TAIL_SECONDS
    assert tail.take(5.0, len(SMALL)) is None
    assert tail.take(tail.due, len(SMALL)) == Copy("alarm", SMALL)
    assert tail.take(100.0, len(SMALL)) is None
    assert tail.due == float("inf")


def test_what_was_answered_does_not() -> None:
    tail = Tail()
    tail.sent("alarm", SMALL, 5.0)
    assert tail.take(5.01, 0) is None
    assert tail.take(6.0, len(SMALL)) is None


def test_only_the_last_and_only_a_small_one() -> None:
    tail = Tail()
    tail.sent("alarm", SMALL, 5.0)
    tail.sent("consultation", LARGE, 5.05)
    assert tail.due == float("inf")
    assert tail.take(9.0, 1) is None
