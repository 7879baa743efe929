"""Nonces and buckets, on a clock that the test moves."""

import contextlib

import pytest

from lianzhen_hub.fleet.errors import HubBusy, NonceUnknown, TooManyRequests
from lianzhen_hub.fleet.limits import Nonces, RateLimit, Room


class Hand:
    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at


def test_a_nonce_works_once() -> None:
    nonces = Nonces(Hand())
    nonce = nonces.give()
    nonces.spend(nonce)
    with pytest.raises(NonceUnknown):
        nonces.spend(nonce)


def test_a_nonce_lives_for_minutes() -> None:
    hand = Hand()
    nonces = Nonces(hand, life=300)
    young, old = nonces.give(), nonces.give()
    hand.at += 299
    nonces.spend(young)
    hand.at += 2
    with pytest.raises(NonceUnknown):
        nonces.spend(old)


def test_nonces_do_not_fill_the_memory() -> None:
    nonces = Nonces(Hand(), limit=10)
    given = [nonces.give() for _ in range(100)]
    assert len(nonces._open) == 10
    nonces.spend(given[-1])
    with pytest.raises(NonceUnknown):
        nonces.spend(given[0])


def test_an_address_may_ask_in_bursts_and_then_at_its_rate() -> None:
    hand = Hand()
    limit = RateLimit(hand, burst=3, every=2.0)
    for _ in range(3):
        limit.take("10.0.0.1")
    with pytest.raises(TooManyRequests) as refused:
        limit.take("10.0.0.1")
    assert refused.value.retry_after == 2
    limit.take("10.0.0.2")
    hand.at += 2.0
    limit.take("10.0.0.1")
    with pytest.raises(TooManyRequests):
        limit.take("10.0.0.1")
    hand.at += 100.0
    for _ in range(3):
        limit.take("10.0.0.1")


def test_a_refused_request_costs_nothing_more() -> None:
    hand = Hand()
    limit = RateLimit(hand, burst=1, every=10.0)
    limit.take("10.0.0.1")
    for _ in range(50):
        with pytest.raises(TooManyRequests) as refused:
            limit.take("10.0.0.1")
        assert refused.value.retry_after == 10


def test_an_ipv6_network_is_one_asker() -> None:
    limit = RateLimit(Hand(), burst=1)
    limit.take("2001:db8::1")
    with pytest.raises(TooManyRequests):
        limit.take("2001:db8::ffff")
    limit.take("2001:db8:0:1::1")


def test_addresses_do_not_fill_the_memory() -> None:
    limit = RateLimit(Hand(), burst=1, limit=10)
    for number in range(100):
        limit.take(f"10.0.0.{number}")
    assert len(limit._full_at) == 10


def test_a_full_house_says_when_to_come_back_spread_and_has_room_again() -> None:
    said = iter([0.0, 0.999])
    room = Room(places=1, unit=lambda: next(said), spread=60)
    with room.entered():
        for least in (30, 60):
            with pytest.raises(HubBusy) as busy, room.entered():
                pass
            assert busy.value.retry_after == least
    with contextlib.suppress(ZeroDivisionError), room.entered():
        raise ZeroDivisionError
    with room.entered():
        pass
