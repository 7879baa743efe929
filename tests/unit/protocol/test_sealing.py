"""Sealing: a blob opens at its own place, unchanged, or not at all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lianzhen_protocol.errors import SealBroken
from lianzhen_protocol.identity import Epoch, NodeId
from lianzhen_protocol.sealing import SealingKey, key_place, record_place

KEY = SealingKey(bytes(range(32)))
NONCE = bytes(12)
NODE, EPOCH = NodeId("n0123456789ab"), Epoch(bytes(16))
HERE = record_place(NODE, EPOCH, "record", 7)


@given(st.binary(max_size=500), st.binary(min_size=12, max_size=12))
def test_what_was_sealed_opens_at_its_place(plain: bytes, nonce: bytes) -> None:
    assert KEY.open(KEY.seal(nonce, plain, HERE), HERE) == plain


@pytest.mark.parametrize(
    "place",
    [
        record_place(NodeId("n0123456789ac"), EPOCH, "record", 7),
        record_place(NODE, Epoch(b"1" * 16), "record", 7),
        record_place(NODE, EPOCH, "records", 7),
        record_place(NODE, EPOCH, "record", 8),
        record_place(NODE, EPOCH, "record", 7, version=2),
        key_place(NODE, EPOCH, 7),
    ],
)
def test_a_blob_moved_to_another_place_does_not_open(place: bytes) -> None:
    with pytest.raises(SealBroken):
        KEY.open(KEY.seal(NONCE, b"plain", HERE), place)


def test_two_blobs_that_changed_places_do_not_open() -> None:
    there = record_place(NODE, EPOCH, "record", 8)
    one, other = KEY.seal(NONCE, b"one", HERE), KEY.seal(b"1" * 12, b"two", there)
    for sealed, place in ((one, there), (other, HERE)):
        with pytest.raises(SealBroken):
            KEY.open(sealed, place)


def test_every_flipped_bit_is_noticed() -> None:
    sealed = KEY.seal(NONCE, b"blood pressure 120/80", HERE)
    for bit in range(8 * len(sealed)):
        changed = bytearray(sealed)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(SealBroken):
            KEY.open(bytes(changed), HERE)


def test_a_blob_cut_off_anywhere_is_noticed() -> None:
    sealed = KEY.seal(NONCE, b"plain", HERE)
    for length in range(len(sealed)):
        with pytest.raises(SealBroken):
            KEY.open(sealed[:length], HERE)


def test_another_key_does_not_open_it() -> None:
    with pytest.raises(SealBroken):
        SealingKey(bytes(32)).open(KEY.seal(NONCE, b"plain", HERE), HERE)


def test_keys_and_nonces_of_other_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        SealingKey(bytes(16))
    with pytest.raises(ValueError, match="12 bytes"):
        KEY.seal(bytes(16), b"plain", HERE)
