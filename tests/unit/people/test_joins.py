"""Joins and bindings against a model: spans never overlap, and whatever is undone is as before."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    rule,
)

from lianzhen_protocol import bindings, joins
from lianzhen_protocol.bindings import FOREVER, Binding, DeviceBound, DeviceReleased
from lianzhen_protocol.errors import PatientError
from lianzhen_protocol.imaging import Study
from lianzhen_protocol.joins import GAP_MS, Item, ItemJoined, ItemKind, ItemUnjoined, Reason
from lianzhen_protocol.keepers import KEEPERS, take_reading
from lianzhen_protocol.people import Patient
from lianzhen_protocol.sheets import Sheet
from lianzhen_protocol.vitals import Reading, Vitals, VitalsReading, Wearers
from support.memory_sheets import MemorySheets
from support.people import (
    NODE,
    NURSE,
    OTHER,
    a_patient,
    a_study,
    an_id,
    everything,
    joined,
    registered,
)

ANNA, BERT, CARL = a_patient(1), a_patient(2), a_patient(3, node=OTHER)


def a_house() -> MemorySheets:
    return registered(ANNA, BERT, CARL)


def bound(sheets: MemorySheets, number: int, patient: Patient, from_ms: int) -> None:
    body = DeviceBound(id=an_id(number), device="W1", patient=patient.id, from_ms=from_ms, by=NURSE)
    joins.bound(sheets, body, KEEPERS, patient.node)


def released(sheets: MemorySheets, number: int, to_ms: int, node: str = NODE) -> None:
    joins.released(sheets, DeviceReleased(id=an_id(number), to_ms=to_ms, by=NURSE), KEEPERS, node)


def heard(sheets: MemorySheets, number: int, at_ms: int) -> Reading:
    """A reading arrives, whenever it was taken: as the box does it."""
    owner = joins.patient_at(sheets, NODE, "W1", at_ms)
    body = VitalsReading(
        patient_id=owner, device_id="W1", measurements=(), device_ms=at_ms, sent_ms=at_ms,
        received_ms=at_ms, corrected_ms=at_ms,
    )  # fmt: skip
    take_reading(sheets, an_id(number), body, NODE)
    if not owner:
        joins.wait_reading(sheets, NODE, "W1", at_ms, an_id(5000 + number))
    reading = sheets.get(Reading, an_id(number))
    assert reading is not None
    return reading


def owner_of(sheets: MemorySheets, number: int) -> str:
    found = sheets.get(Reading, an_id(number))
    assert found is not None
    return found.patient_id


def code_of(call: Any, *arguments: Any) -> str:
    with pytest.raises(PatientError) as caught:
        call(*arguments)
    return caught.value.code


# -- bindings


def test_a_late_reading_belongs_to_who_wore_the_device_then() -> None:
    sheets = a_house()
    bound(sheets, 10, ANNA, 1000)
    released(sheets, 10, 2000)
    bound(sheets, 11, BERT, 2000)
    owners = [joins.patient_at(sheets, NODE, "W1", at) for at in (999, 1000, 1999, 2000, 9999)]
    assert owners == ["", ANNA.id, ANNA.id, BERT.id, BERT.id]
    assert joins.patient_at(sheets, OTHER, "W1", 1500) == ""
    assert [b.patient for b in bindings.of_patient(sheets, ANNA.id)] == [ANNA.id]


@pytest.mark.parametrize(
    ("number", "patient", "from_ms", "code"),
    [
        (12, BERT, 5000, "device-bound"),
        (12, ANNA, 5000, "device-bound"),
        (11, ANNA, 5000, "binding-known"),
    ],
)
def test_a_worn_device_is_released_first(
    number: int, patient: Patient, from_ms: int, code: str
) -> None:
    sheets = a_house()
    bound(sheets, 11, ANNA, 3000)
    before = everything(sheets)
    assert code_of(bound, sheets, number, patient, from_ms) == code
    assert everything(sheets) == before


def test_another_clinics_device_of_the_same_name_is_another_device() -> None:
    sheets = a_house()
    bound(sheets, 10, ANNA, 1000)
    bound(sheets, 11, CARL, 1000)
    assert joins.patient_at(sheets, OTHER, "W1", 1500) == CARL.id
    assert joins.patient_at(sheets, NODE, "W1", 1500) == ANNA.id
    assert code_of(released, sheets, 11, 2000) == "patient-foreign"
    body = DeviceBound(id=an_id(12), device="W2", patient=CARL.id, from_ms=0, by=NURSE)
    assert code_of(joins.bound, sheets, body, KEEPERS, NODE) == "patient-foreign"


def test_an_end_comes_after_its_beginning_and_never_moves_later() -> None:
    sheets = a_house()
    bound(sheets, 10, ANNA, 1000)
    assert code_of(released, sheets, 10, 999) == "binding-end"
    released(sheets, 10, 2000)
    assert code_of(released, sheets, 10, 2001) == "binding-end"
    released(sheets, 10, 1500)
    assert code_of(bound, sheets, 11, BERT, 1499) == "binding-overlap"
    assert code_of(released, sheets, 99, 0) == "binding-unknown"
    for device in ("", "x" * 65, "a\n"):
        body = DeviceBound(id=an_id(12), device=device, patient=ANNA.id, from_ms=0, by=NURSE)
        assert code_of(joins.bound, sheets, body, KEEPERS, NODE) == "device-form"


def test_a_wrong_binding_is_cut_to_nothing_and_its_readings_go_to_who_wore_it() -> None:
    sheets = a_house()
    bound(sheets, 10, ANNA, 1000)
    heard(sheets, 100, 1200)
    heard(sheets, 101, 1300)
    vitals = sheets.get(Vitals, ANNA.id)
    assert vitals is None or vitals.heard_ms == 1300
    released(sheets, 10, 1000)
    assert owner_of(sheets, 100) == owner_of(sheets, 101) == ""
    emptied = sheets.get(Vitals, ANNA.id)
    assert emptied is not None
    assert emptied.heard_ms == 0
    bound(sheets, 11, BERT, 1000)
    assert owner_of(sheets, 100) == owner_of(sheets, 101) == BERT.id


@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 30), st.integers(0, 30)), max_size=8),
    st.integers(-1, 130),
)
def test_bindings_never_overlap(spans: list[tuple[int, int, int]], at: int) -> None:
    """Whatever is asked for: of what was allowed, no two cover one moment."""
    sheets = a_house()
    for number, (start, first, second) in enumerate(spans):
        try:
            bound(sheets, 10 + number, (ANNA, BERT)[number % 2], start)
            released(sheets, 10 + number, start + first)
            released(sheets, 10 + number, start + second)
        except PatientError:
            continue
    found = [b for b in sheets.find(Binding) if b.covers(at)]
    assert len(found) <= 1
    assert joins.patient_at(sheets, NODE, "W1", at) == (found[0].patient if found else "")
    assert len([b for b in sheets.find(Binding) if b.end_ms == FOREVER]) <= 1


# -- readings that wait


def test_unworn_readings_wait_together_until_there_is_a_gap() -> None:
    sheets = a_house()
    for number, at in enumerate((0, GAP_MS, GAP_MS // 2, 3 * GAP_MS)):
        heard(sheets, 100 + number, at)
    spans = [(item.from_ms, item.to_ms, item.reason) for item in joins.tray(sheets)]
    unbound = Reason.DEVICE_UNBOUND
    assert spans == [(0, GAP_MS, unbound), (3 * GAP_MS, 3 * GAP_MS, unbound)]


def test_a_binding_dated_back_takes_what_waited_since() -> None:
    sheets = a_house()
    for number, at in enumerate((100, 200, 300)):
        heard(sheets, 100 + number, at)
    bound(sheets, 10, ANNA, 200)
    assert [owner_of(sheets, number) for number in (100, 101, 102)] == ["", ANNA.id, ANNA.id]
    assert [(item.from_ms, item.to_ms) for item in joins.tray(sheets)] == [(100, 199)]
    sheets = a_house()
    heard(sheets, 100, 300)
    bound(sheets, 10, ANNA, 200)
    assert joins.tray(sheets) == []


def test_joined_readings_are_theirs_and_no_binding_takes_them_from_them() -> None:
    sheets = a_house()
    heard(sheets, 100, 100)
    heard(sheets, 101, 200)
    (item,) = joins.tray(sheets)
    sheets.delete(Wearers, "W1")  # where to look for readings: only ever grows
    before = everything(sheets)
    sheets.put(Wearers(device_id="W1", subjects=("W1",)))
    joins.join(sheets, ItemJoined(item=joined(item, ANNA)), KEEPERS, NODE)
    assert owner_of(sheets, 100) == owner_of(sheets, 101) == ANNA.id
    assert heard(sheets, 102, 150).patient_id == ANNA.id
    assert code_of(bound, sheets, 10, BERT, 200) == "binding-joined"
    sheets.delete(Reading, an_id(102))
    joins.unjoin(sheets, ItemUnjoined(id=item.id, by=NURSE, why="x"), KEEPERS, NODE)
    sheets.delete(Vitals, ANNA.id)  # rebuilt from nothing, where there was none
    sheets.delete(Wearers, "W1")
    assert everything(sheets) == before


# -- studies


def test_a_study_that_comes_after_its_join_is_asked_for() -> None:
    sheets = a_house()
    item = joined(a_study(ANNA), ANNA)
    joins.join(sheets, ItemJoined(item=item), KEEPERS, NODE)
    assert joins.patient_of(sheets, item.id) == ANNA.id
    assert joins.patient_of(sheets, an_id(901)) == ""


def test_what_joined_by_the_rule_is_taken_out_and_says_so() -> None:
    sheets = a_house()
    item = msgspec.structs.replace(joined(a_study(ANNA), ANNA), reason=None)
    joins.join(sheets, ItemJoined(item=item), KEEPERS, NODE)
    joins.unjoin(sheets, ItemUnjoined(id=item.id, by=NURSE, why="x"), KEEPERS, NODE)
    assert [each.reason for each in joins.tray(sheets)] == [Reason.TAKEN_OUT]


def test_what_no_join_may_do() -> None:
    sheets = a_house()
    item = a_study(ANNA)
    sheets.put(item)
    before = everything(sheets)
    elsewhere = joined(msgspec.structs.replace(item, node=OTHER), ANNA)
    for body, code in (
        (ItemJoined(item=item), "join-empty"),
        (ItemJoined(item=joined(item, CARL)), "patient-foreign"),
        (ItemJoined(item=elsewhere), "patient-foreign"),
        (ItemJoined(item=joined(item, a_patient(9))), "patient-unknown"),
        (ItemJoined(item=joined(a_study(ANNA, kind=ItemKind.READINGS), ANNA)), "item-differs"),
        (ItemJoined(item=joined(a_study(ANNA, uid="1.2.3"), ANNA)), "item-differs"),
    ):
        assert code_of(joins.join, sheets, body, KEEPERS, NODE) == code
    undo = ItemUnjoined(id=item.id, by=NURSE, why="x")
    assert code_of(joins.unjoin, sheets, undo, KEEPERS, NODE) == "join-none"
    undo = ItemUnjoined(id=an_id(999), by=NURSE, why="x")
    assert code_of(joins.unjoin, sheets, undo, KEEPERS, NODE) == "item-unknown"
    assert everything(sheets) == before
    joins.join(sheets, ItemJoined(item=joined(item, ANNA)), KEEPERS, NODE)
    twice = ItemJoined(item=joined(item, BERT))
    assert code_of(joins.join, sheets, twice, KEEPERS, NODE) == "join-twice"
    undo = ItemUnjoined(id=item.id, by=NURSE, why="x")
    assert code_of(joins.unjoin, sheets, undo, KEEPERS, OTHER) == "patient-foreign"


class Tray(RuleBasedStateMachine):
    """Studies come, are joined, undone and moved in any order; a dictionary is the oracle."""

    waiting = Bundle("waiting")
    there = Bundle("there")

    @initialize()
    def begin(self) -> None:
        self.sheets = a_house()
        self.owners: dict[str, str] = {}
        self.former: dict[str, dict[tuple[str, str], Sheet]] = {}

    @rule(target=waiting, reason=st.sampled_from(Reason))
    def come(self, reason: Reason) -> Item:
        item = a_study(ANNA, 900 + len(self.owners), reason=reason)
        self.sheets.put(item)
        self.sheets.put(Study(id=item.id, node=NODE, uid=item.uid))
        self.owners[item.id] = ""
        return item

    @rule(target=there, item=consumes(waiting), patient=st.sampled_from((ANNA, BERT)))
    def join(self, item: Item, patient: Patient) -> Item:
        before = {k: v for k, v in everything(self.sheets).items() if k[1] == item.id}
        self.former[item.id] = before
        body = ItemJoined(item=joined(item, patient))
        joins.join(self.sheets, body, KEEPERS, NODE)
        self.owners[item.id] = patient.id
        return item

    @rule(target=waiting, item=consumes(there))
    def undo(self, item: Item) -> Item:
        joins.unjoin(self.sheets, ItemUnjoined(id=item.id, by=NURSE, why="x"), KEEPERS, NODE)
        self.owners[item.id] = ""
        now = {k: v for k, v in everything(self.sheets).items() if k[1] == item.id}
        assert now == self.former[item.id]
        return item

    @rule(item=there)
    def join_twice(self, item: Item) -> None:
        body = ItemJoined(item=joined(item, BERT))
        assert code_of(joins.join, self.sheets, body, KEEPERS, NODE) == "join-twice"

    @invariant()
    def everybody_has_what_the_oracle_says(self) -> None:
        for item, owner in self.owners.items():
            study = self.sheets.get(Study, item)
            assert study is not None
            assert study.patient_id == owner == joins.patient_of(self.sheets, item)
        waiting = {item.id for item in joins.tray(self.sheets)}
        assert waiting == {item for item, owner in self.owners.items() if not owner}


TestTray = Tray.TestCase
