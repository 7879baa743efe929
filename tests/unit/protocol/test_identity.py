"""Ids: their alphabet, their lengths, and UUIDv7 bit by bit."""

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lianzhen_protocol import identity
from lianzhen_protocol.errors import IdentityError


@given(st.binary(min_size=8, max_size=32))
def test_a_new_node_id_is_a_node_id(random: bytes) -> None:
    node = identity.new_node_id(random)
    assert identity.node_id(node) == node
    assert not set(node[1:]) & set("ilou")


@pytest.mark.parametrize(
    "text", ["", "n", "n0123456789a", "n0123456789abc", "N0123456789AB", "n0123456789al",
             "m0123456789ab", "n0123456789ab\n", "hub", "hub-signing"],
)  # fmt: skip
def test_what_is_no_node_id(text: str) -> None:
    with pytest.raises(IdentityError):
        identity.node_id(text)


def test_too_little_chance_is_refused() -> None:
    with pytest.raises(IdentityError):
        identity.new_node_id(bytes(7))
    with pytest.raises(IdentityError):
        identity.uuid7(0, bytes(9))


@given(st.binary(max_size=40))
def test_epochs_and_record_ids_are_sixteen_bytes(raw: bytes) -> None:
    for make in (identity.epoch, identity.record_id):
        if len(raw) == 16:
            assert make(raw) == raw
        else:
            with pytest.raises(IdentityError):
                make(raw)


@given(st.integers(0, (1 << 48) - 1), st.binary(min_size=10, max_size=10))
def test_a_uuid7_is_laid_out_as_rfc_9562_says(unix_ms: int, random: bytes) -> None:
    found = uuid.UUID(bytes=identity.uuid7(unix_ms, random))
    assert found.version == 7
    assert found.variant == uuid.RFC_4122
    assert found.int >> 80 == unix_ms
    chance = int.from_bytes(random)
    assert found.int >> 64 & 0xFFF == chance >> 64 & 0xFFF
    assert found.int & ((1 << 62) - 1) == chance & ((1 << 62) - 1)


def test_the_example_of_rfc_9562() -> None:
    random = bytes.fromhex("0CC318C4DC0C0C07398F")
    expected = "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"
    assert str(uuid.UUID(bytes=identity.uuid7(0x017F22E279B0, random))) == expected


@given(st.integers(0, (1 << 48) - 2), st.binary(min_size=10, max_size=10),
       st.binary(min_size=10, max_size=10))  # fmt: skip
def test_a_later_uuid7_sorts_later(unix_ms: int, one: bytes, other: bytes) -> None:
    assert identity.uuid7(unix_ms, one) < identity.uuid7(unix_ms + 1, other)
