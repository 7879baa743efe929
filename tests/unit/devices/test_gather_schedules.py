"""Streams under seeded schedules: messages repeated, late and out of order, deaths, full disks,
changes of hands. What a receipt names is at the box once, and the hub makes the same of it.
"""

import contextlib
import random
from pathlib import Path
from typing import Final

import msgspec
import pytest

from lianzhen_edge.devices import desk, gather, ingress
from lianzhen_edge.journal.book import Book
from lianzhen_edge.journal.errors import JournalFull
from lianzhen_edge.journal.journal import Journal
from lianzhen_edge.meanings import MEANINGS
from lianzhen_protocol import keepers, kinds, records, vitals
from lianzhen_protocol.bindings import Binding
from lianzhen_protocol.common_meanings import BEDSIDE_BODIES, apply_bedside
from lianzhen_protocol.minutes import Minute
from lianzhen_protocol.people import By
from lianzhen_protocol.sheets import Sheets
from lianzhen_protocol.vitals import Reading, Vitals
from lianzhen_runtime.keys import FileKeys
from support.memory_sheets import MemorySheets
from support.wearable import message

from .conftest import NODE, NURSE

START: Final = 1_795_400_000_000
MESSAGES: Final = 80
PATIENTS: Final = ("p" * 32, "q" * 32)
_BY: Final = By(account=NURSE.id, name=NURSE.name)


class Hub(MemorySheets):
    """A hub's sheets of one box."""

    node = NODE


class Schedule:
    """One box, one device, and what happens to them."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.chance = folder, random.Random(seed)
        self.now, self.device_ms = START, START - 5_000
        self.journal: Journal
        self.device = ""
        self.sent: list[tuple[str, int, int]] = []
        self.promised: dict[str, tuple[int, int]] = {}
        """Reading -> measuring time by the device, value."""
        self.bindings: list[Binding] = []

    async def open(self) -> None:
        self.journal = await Journal.open(
            self.folder / "journal.db", NODE, FileKeys(self.folder / "keys"), lambda: self.now,
            meanings=MEANINGS,
        )  # fmt: skip

    async def die(self) -> None:
        """As a kill leaves it: nothing is written at the end."""
        await self.journal.close()
        await self.open()

    async def measures(self) -> None:
        gap = self.chance.choice((1000, 1000, 1000, 1000, 1003, 200, 4000, 12_000))
        self.now, self.device_ms = self.now + gap, self.device_ms + gap
        self.sent.append((f"m{len(self.sent)}", self.device_ms, self.chance.randrange(60, 64)))
        if self.chance.random() < 0.8:  # else it is lost on the way, until it is sent again
            await self.sends(self.sent[-1])

    async def repeats(self) -> None:
        """A message that may have been stored, and whose receipt may have been lost."""
        if self.sent:
            await self.sends(self.chance.choice(self.sent[-25:]))

    async def sends(self, one: tuple[str, int, int], *, full: bool = False) -> None:
        name, measured, value = one
        payload = message(name, measured, self.device_ms, pulse=value)
        received = self.now + self.chance.randrange(30)

        def take(book: Book) -> str:
            book._full = JournalFull("the disk is full") if full else None
            return ingress.take(book, self.device, payload, received).stored

        with contextlib.suppress(JournalFull):
            stored = await self.journal.transact(take)
            assert stored, "it is stored, and nothing else"
            assert self.promised.setdefault(stored, (measured, value)) == (measured, value)

    async def fills(self) -> None:
        if self.sent:
            await self.sends(self.chance.choice(self.sent), full=True)

    async def looks(self) -> None:
        self.now += self.chance.choice((0, 0, 11_000))
        await self.journal.transact(gather.flush_due)

    async def changes_hands(self) -> None:
        """Now, or since some seconds ago, as is said only now."""
        at = self.now - self.chance.choice((0, 0, 1500, 20_000))
        open_ = next((each for each in self.bindings if each.to_ms is None), None)
        if open_ is not None:
            changed = msgspec.structs.replace(open_, to_ms=max(at, open_.from_ms))
            self.bindings[self.bindings.index(open_)] = changed
            since = changed.end_ms
        else:
            since = max([at, *(each.end_ms for each in self.bindings)])
            changed = Binding(
                id=f"{len(self.bindings):032x}", node=NODE, device=self.device,
                patient=self.chance.choice(PATIENTS), from_ms=since, bound_by=_BY,
            )  # fmt: skip
            self.bindings.append(changed)

        def put(book: Book) -> None:
            book.put(changed)
            keepers.look_again(book, NODE, self.device, since, self.now + 10_000)

        await self.journal.transact(put)

    async def run(self) -> None:
        await self.open()
        made = await self.journal.transact(lambda book: desk.add_device(book, "Band", NURSE))
        self.device = made.device_id
        while len(self.sent) < MESSAGES:
            await self.chance.choices(
                (self.measures, self.repeats, self.die, self.fills, self.looks, self.changes_hands),
                (70, 12, 2, 4, 8, 4),
            )[0]()
        for one in self.sent:
            await self.sends(one)
        await self.journal.transact(lambda book: gather.flush_due(book, all_of_them=True))


def known(sheets: Sheets) -> dict[str, tuple[str, int, int, float | None]]:
    """Every reading: whose, when by the device and by the box, and its value."""
    found = list(sheets.find(Reading, limit=10_000))
    for minute in sheets.find(Minute, limit=10_000):
        found += minute.readings()
    assert len({each.id for each in found}) == len(found), "a reading is there twice"
    return {
        each.id: (each.patient_id, each.body.device_ms, each.body.corrected_ms,
                  each.body.measurements[0].value)
        for each in found
    }  # fmt: skip


def as_the_hub(schedule: Schedule, *, bindings_first: bool) -> Hub:
    """What the hub makes of the box's records, whenever it hears who wore the device."""
    hub = Hub()
    for binding in schedule.bindings if bindings_first else ():
        hub.put(binding)
    run = schedule.journal.read(vitals.STREAM, 1, 10_000, 10 << 20)
    for entry in run.records:
        record = records.decode(entry)
        body = kinds.open_body(record)
        if isinstance(body, BEDSIDE_BODIES):
            apply_bedside(hub, record, body, alarm_node="")
    if not bindings_first:
        for binding in schedule.bindings:
            hub.put(binding)
        keepers.look_again(hub, NODE, schedule.device, 0, 1 << 62)
    return hub


@pytest.mark.parametrize("seed", range(6))
async def test_what_a_receipt_names_is_at_the_box_and_at_the_hub_once(
    tmp_path: Path, seed: int
) -> None:
    schedule = Schedule(tmp_path, seed)
    await schedule.run()
    here = known(schedule.journal.sheets)
    assert len(schedule.promised) == MESSAGES
    told = {name: (device_ms, value) for name, (_, device_ms, _, value) in here.items()}
    assert told == schedule.promised
    for bindings_first in (True, False):
        hub = as_the_hub(schedule, bindings_first=bindings_first)
        assert known(hub) == here
        for patient in PATIENTS:
            assert latest(hub, patient) == latest(schedule.journal.sheets, patient)
    run = schedule.journal.read(vitals.STREAM, 1, 10_000, 10 << 20)
    assert len(run.records) < MESSAGES, "some of it travelled as minutes"
    await schedule.journal.close()


def latest(sheets: Sheets, patient: str) -> object:
    """A patient's present state, and None where there is none."""
    state = sheets.get(Vitals, patient)
    return (state.latest, state.heard_ms) if state and state.latest else None
