"""A log to which something was done: the first row at which it shows is named."""

import dataclasses
import re
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lianzhen_protocol import audit
from lianzhen_protocol.audit import Entry, Fault, Head, Row

LOG = "n0123456789ab"


def chain(count: int, log: str = LOG, salt: int = 0) -> list[Row]:
    """A log as it is written."""
    rows: list[Row] = []
    before = audit.genesis(log)
    for seq in range(1, count + 1):
        subject = f"patient {seq % 5}"
        salty = bytes([salt, seq % 256]) * 8
        entry = Entry(seq * 1000, f"actor {seq % 3}", "read", subject, subject, salty)
        before = audit.extend(before, seq, entry)
        rows.append(Row(seq, entry, before))
    return rows


def head(rows: list[Row], seq: int) -> Head:
    return Head(seq, rows[seq - 1].hash, 7)


@given(st.integers(0, 40), st.data())
def test_a_log_that_nobody_touched_is_whole(count: int, data: st.DataObject) -> None:
    rows = chain(count)
    told = data.draw(st.lists(st.integers(1, count), max_size=5)) if count else []
    found = audit.verify(LOG, rows, [head(rows, seq) for seq in told])
    assert found.finding is None
    assert (found.rows, found.heads, found.head.seq) == (count, len(told), count)


@dataclasses.dataclass
class Harm:
    """What somebody did to rows 1 to 9 of which the head was told, and what is found."""

    do: Callable[[list[Row]], list[Row]]
    fault: Fault
    seq: int
    sentence: str


def edit(seq: int, **changes: object) -> Callable[[list[Row]], list[Row]]:
    def changed(row: Row) -> Row:
        if "hash" in changes or "entry" in changes:
            return msgspec.structs.replace(row, **changes)
        assert row.entry is not None
        return Row(row.seq, msgspec.structs.replace(row.entry, **changes), row.hash)

    def do(rows: list[Row]) -> list[Row]:
        return [changed(row) if row.seq == seq else row for row in rows]

    return do


def delete(*gone: int) -> Callable[[list[Row]], list[Row]]:
    return lambda rows: [row for row in rows if row.seq not in gone]


def swap(a: int, b: int) -> Callable[[list[Row]], list[Row]]:
    """Their numbers change places, as an UPDATE would do it."""
    places = {a: b, b: a}

    def do(rows: list[Row]) -> list[Row]:
        moved = [msgspec.structs.replace(row, seq=places.get(row.seq, row.seq)) for row in rows]
        return sorted(moved, key=lambda row: row.seq)

    return do


HARMS = {
    "subject": Harm(edit(4, subject="patient 9"), Fault.CHANGED, 4, "row 4 of log .* changed"),
    "actor": Harm(edit(1, actor="nobody"), Fault.CHANGED, 1, "row 1 "),
    "action": Harm(edit(9, action="print"), Fault.CHANGED, 9, "row 9 "),
    "time": Harm(edit(5, at_ms=1), Fault.CHANGED, 5, "row 5 "),
    "hash": Harm(edit(6, hash=bytes(32)), Fault.CHANGED, 6, "row 6 "),
    "sealed": Harm(edit(6, entry=None), Fault.CHANGED, 6, "row 6 .* does not open"),
    "patient": Harm(edit(2, patient=""), Fault.CHANGED, 2, "row 2 "),
    "salt": Harm(edit(6, salt=b""), Fault.CHANGED, 6, "row 6 "),
    "delete": Harm(delete(4), Fault.MISSING, 4, "row 4 .* row 3 is followed by row 5"),
    "delete-two": Harm(delete(4, 5), Fault.MISSING, 4, "rows 4 to 5 of log"),
    "delete-first": Harm(delete(1), Fault.MISSING, 1, "row 1 .* begins with row 2"),
    "swap": Harm(swap(3, 4), Fault.REORDERED, 3, "written as row 3 lies at row 4"),
    "swap-far": Harm(swap(2, 8), Fault.REORDERED, 2, "written as row 2 lies at row 8"),
    "truncate": Harm(delete(9), Fault.TRUNCATED, 9, "row 9 and what followed .* head was row 9"),
    "truncate-more": Harm(delete(7, 8, 9), Fault.TRUNCATED, 7, "row 7 and what followed"),
    "everything": Harm(lambda _rows: [], Fault.TRUNCATED, 1, "row 1 and what followed"),
    "rewrite": Harm(lambda _rows: chain(9, salt=1), Fault.REWRITTEN, 6, "from row 6 on"),
    "of-another-log": Harm(lambda _rows: chain(9, "hub"), Fault.CHANGED, 1, "row 1 "),
}


@pytest.mark.parametrize("name", HARMS)
def test_the_first_row_that_is_wrong_is_named(name: str) -> None:
    harm, rows = HARMS[name], chain(9)
    told = [head(rows, 9)]
    if name == "rewrite":  # up to row 5 the old head still agrees
        forged = chain(9, salt=1)
        told.append(head(forged, 5))
    found = audit.verify(LOG, harm.do(rows), told).finding
    assert found is not None
    assert (found.fault, found.seq) == (harm.fault, harm.seq)
    assert re.search(harm.sentence, found.sentence)


def test_without_a_head_that_somebody_kept_a_cut_is_not_seen() -> None:
    """Why heads are told: the chain alone cannot know how long it was."""
    assert audit.verify(LOG, chain(9)[:5], []).finding is None


@given(st.integers(2, 30), st.data())
def test_any_edit_is_found_at_its_row(count: int, data: st.DataObject) -> None:
    rows = chain(count)
    seq = data.draw(st.integers(1, count))
    field = data.draw(st.sampled_from(["at_ms", "actor", "subject", "action"]))
    value = 999_999 if field == "at_ms" else data.draw(st.text(max_size=5))
    found = audit.verify(LOG, edit(seq, **{field: value})(rows), []).finding
    assert found is not None
    assert (found.fault, found.seq) == (Fault.CHANGED, seq)


@given(st.integers(3, 30), st.data())
def test_any_deletion_is_found_at_its_row(count: int, data: st.DataObject) -> None:
    rows = chain(count)
    seq = data.draw(st.integers(1, count))
    found = audit.verify(LOG, delete(seq)(rows), [head(rows, count)]).finding
    assert found is not None
    assert found.seq == seq
    assert found.fault is (Fault.TRUNCATED if seq == count else Fault.MISSING)


@given(st.binary(min_size=16, max_size=16), st.binary(min_size=16, max_size=16))
def test_equal_words_have_other_hashes_under_other_salts(one: bytes, other: bytes) -> None:
    hashes = {
        audit.extend(audit.genesis(LOG), 1, Entry(1000, "actor", "read", "p", "p", salt))
        for salt in (one, other)
    }
    assert len(hashes) == (1 if one == other else 2)


def test_words_do_not_run_into_each_other() -> None:
    hashes = {
        audit.extend(audit.genesis(LOG), 1, Entry(1, actor, "read", subject, "", bytes(16)))
        for actor, subject in (("ab", "c"), ("a", "bc"), ("abc", ""))
    }
    assert len(hashes) == 3


@given(
    st.builds(
        Entry, st.integers(0, 1 << 50), st.text(), st.text(), st.text(), st.text(), st.binary()
    )
)
def test_an_entry_is_read_back(entry: Entry) -> None:
    assert audit.decode(audit.encode(entry)) == entry
