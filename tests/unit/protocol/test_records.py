"""Records: kept when they cannot be understood, and never more than a RecordError."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lianzhen_protocol import kinds, records
from lianzhen_protocol.errors import RecordError
from lianzhen_protocol.identity import uuid7
from lianzhen_protocol.records import Body, DiagnosticNote, RecordRejected, RecordSeen

ID = uuid7(1_700_000_000_000, bytes(range(10)))
bodies = st.one_of(
    st.builds(DiagnosticNote, text=st.text()),
    st.builds(RecordRejected, record_id=st.binary(), code=st.text(), reason=st.text()),
    st.builds(
        RecordSeen, record_id=st.binary(), seen_by=st.text(), seen_ms=st.integers(0, 1 << 50)
    ),
)


def envelope(**changes: object) -> bytes:
    """A good record with some fields of the envelope changed."""
    good = {"id": ID, "kind": "diagnostic.note", "major": 1, "minor": 0, "created_ms": 5}
    body = msgspec.msgpack.encode({"text": "x"})
    return msgspec.msgpack.encode([*({**good, "body": body} | changes).values()])


@given(bodies, st.integers(0, 1 << 47))
def test_what_was_said_comes_back(body: Body, created_ms: int) -> None:
    record = records.decode(kinds.encode(body, ID, created_ms))
    assert (record.id, record.created_ms, kinds.open_body(record)) == (ID, created_ms, body)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_a_record_error(wire: bytes) -> None:
    try:
        kinds.open_body(records.decode(wire))
    except RecordError:
        return
    assert wire[:1] > b"\x90"


@given(bodies, st.integers(0, 500), st.integers(1, 255))
def test_a_changed_byte_is_a_record_or_a_record_error(body: Body, at: int, mask: int) -> None:
    wire = bytearray(kinds.encode(body, ID, 0))
    wire[at % len(wire)] ^= mask
    try:
        kinds.open_body(records.decode(bytes(wire)))
    except RecordError:
        return


def test_a_record_cut_off_at_any_byte_is_a_record_error() -> None:
    wire = kinds.encode(DiagnosticNote(text="cut"), ID, 0)
    for length in range(len(wire)):
        with pytest.raises(RecordError):
            records.decode(wire[:length])


def test_nesting_without_end_is_a_record_error() -> None:
    with pytest.raises(RecordError):
        records.decode(b"\x97" + envelope()[1:] + b"\x91" * 100_000)
    deep = msgspec.msgpack.encode({"text": "x"})[:-2] + b"\xa1x\xa1y" + b"\x91" * 100_000
    with pytest.raises(RecordError):
        kinds.open_body(records.decode(envelope(body=b"\x82" + deep[1:])))


def test_a_newer_minor_is_read_and_what_it_added_is_let_through() -> None:
    body = msgspec.msgpack.encode({"text": "read me", "added": [1, 2]})
    wire = envelope(minor=9, body=body)
    longer = b"\x97" + wire[1:] + msgspec.msgpack.encode("added to the envelope")
    assert kinds.open_body(records.decode(longer)) == DiagnosticNote(text="read me")


def test_an_unknown_kind_is_told_from_an_unknown_major() -> None:
    with pytest.raises(RecordError) as kind:
        kinds.open_body(records.decode(envelope(kind="diagnostic.sneeze")))
    with pytest.raises(RecordError) as major:
        kinds.open_body(records.decode(envelope(major=3)))
    assert (kind.value.code, major.value.code) == ("record-kind-unknown", "record-version")


def test_an_id_of_another_length_is_a_record_error() -> None:
    with pytest.raises(RecordError):
        records.decode(envelope(id=b"short"))


def test_no_more_than_two_majors_of_a_kind_are_read() -> None:
    assert all(1 <= len(majors) <= 2 for majors in records.KINDS.values())
