"""The hash chain: every stream begins elsewhere, and a difference never heals."""

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from lianzhen_protocol import chain
from lianzhen_protocol.identity import Epoch, NodeId

NODE, EPOCH = NodeId("n0123456789ab"), Epoch(bytes(16))
histories = st.lists(st.binary(max_size=20), min_size=1, max_size=20)


def test_no_two_streams_begin_alike() -> None:
    begins = {
        chain.genesis(NODE, EPOCH, "record"),
        chain.genesis(NODE, EPOCH, "alarm"),
        chain.genesis(NODE, Epoch(b"1" * 16), "record"),
        chain.genesis(NodeId("n0123456789ac"), EPOCH, "record"),
    }
    assert len(begins) == 4


@given(histories, st.integers(0, 20), st.binary(max_size=20))
def test_a_difference_changes_every_later_hash(history: list[bytes], at: int, other: bytes) -> None:
    at %= len(history)
    changed = [*history[:at], other, *history[at + 1 :]]
    ours = list(chain.walk(bytes(32), history))
    theirs = list(chain.walk(bytes(32), changed))
    assert ours[:at] == theirs[:at]
    if other != history[at]:
        assert not set(ours[at:]) & set(theirs[at:])


@given(histories)
def test_a_step_is_sha_256_of_hash_and_record(history: list[bytes]) -> None:
    here = bytes(32)
    for record, found in zip(history, chain.walk(here, history), strict=True):
        here = hashlib.sha256(here + record).digest()
        assert found == here
