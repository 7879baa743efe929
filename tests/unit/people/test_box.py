"""The desk and the tray on a real journal, and the same records at a real hub's database."""

from collections.abc import AsyncIterator
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
from sqlalchemy import Connection

from lianzhen_edge.clinic.reads import Reads
from lianzhen_edge.journal.book import Book
from lianzhen_edge.journal.journal import Journal
from lianzhen_edge.meanings import MEANINGS
from lianzhen_edge.patients import desk, tray
from lianzhen_edge.patients.desk import Details
from lianzhen_edge.patients.directory import Directory
from lianzhen_hub.ingest.downlink import Outbox
from lianzhen_hub.ingest.vault import Vault
from lianzhen_hub.meanings import MEANINGS as HUB_MEANINGS
from lianzhen_hub.page import HubPage
from lianzhen_hub.store.database import Database, sqlite_url
from lianzhen_protocol import joins, kinds, people
from lianzhen_protocol.bindings import Binding
from lianzhen_protocol.errors import PatientError, RecordError
from lianzhen_protocol.identity import NodeId
from lianzhen_protocol.imaging import ImageStored, Sent, Study, instance_key, scanner_key, study_key
from lianzhen_protocol.joins import Item, Reason
from lianzhen_protocol.people import Patient, Sex
from lianzhen_protocol.records import decode
from lianzhen_protocol.vitals import Reading, VitalsReading
from lianzhen_runtime.keys import FileKeys
from lianzhen_runtime.web.routes import QUIET
from support.people import NODE, NOW_MS, NURSE

CARD = Details(name="王芳", id_number="11010519491231002x", phone="138 0000 1234")
LI = Details(name="李强", sex=Sex.MALE, birth_date=date(2001, 2, 3))


class Box:
    """A journal with the box's real meanings and a clock of its own."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal

    async def does(self, work: Any, *arguments: Any, **named: Any) -> Any:
        return await self.journal.transact(lambda book: work(book, *arguments, **named))

    async def registers(self, details: Details, patient_id: str = "") -> Patient:
        found = await self.does(desk.register, NURSE, details, patient_id)
        patient = found.patient
        assert isinstance(patient, Patient)
        return patient

    def actions(self) -> list[tuple[str, str, str]]:
        """(actor, action, patient) of every audit row; the chain must hold."""
        sheets = self.journal.sheets
        assert sheets.audit_verify(NODE).finding is None
        rows = [row.entry for row in sheets.audit_trail(NODE)]
        return [(row.actor, row.action, row.patient) for row in rows if row]


@pytest.fixture
async def box(tmp_path: Path) -> AsyncIterator[Box]:
    path, keys = tmp_path / "journal.db", FileKeys(tmp_path / "keys")
    journal = await Journal.open(path, NodeId(NODE), keys, lambda: NOW_MS, meanings=MEANINGS)
    yield Box(journal)
    await journal.close()


async def refused(code: str, work: Any) -> None:
    with pytest.raises(PatientError) as caught:
        await work
    assert caught.value.code == code


def an_image(patient: Patient, number: int = 1, **sent: str) -> ImageStored:
    claims = {"patient_id": patient.number, "name": "Wang^Fang", "birth_date": "19491231"}
    uid = f"1.2.{number}"
    return ImageStored(
        instance=instance_key(NODE, f"{number:064x}"),
        study=study_key(NODE, uid),
        sha256=f"{number:064x}",
        size=1,
        sop_class="1.2",
        sop_uid=f"{uid}.1",
        study_uid=uid,
        series_uid=f"{uid}.2",
        transfer_syntax="1.2",
        modality="CT",
        scanner=scanner_key(NODE, "CT1", "127.0.0.1"),
        sent=Sent(**(claims | sent)),
        received_ms=NOW_MS,
    )


def comes(book: Book, image: ImageStored) -> str:
    """As the DICOM intake does it: the image, and whose its study is."""
    book.write("record.imaging", image)
    return tray.study_arrived(book, tray.study_item(book.node, image, "CT1"))


def reads(book: Book, at_ms: int) -> str:
    owner = joins.patient_at(book, book.node, "W1", at_ms)
    body = VitalsReading(
        patient_id=owner, device_id="W1", measurements=(), device_ms=at_ms, sent_ms=at_ms,
        received_ms=NOW_MS, corrected_ms=at_ms,
    )  # fmt: skip
    book.write("vitals.readings", body)
    if not owner:
        joins.wait_reading(book, book.node, "W1", at_ms, book.new_id())
    return owner


# -- the desk


async def test_an_id_number_fills_in_what_it_says(box: Box) -> None:
    patient = await box.registers(CARD)
    assert (patient.birth_date, patient.sex) == (date(1949, 12, 31), Sex.FEMALE)
    assert (patient.id_number, patient.phone) == ("11010519491231002X", "13800001234")
    assert people.patient_number(patient.number) == patient.number
    assert box.journal.sheets.get(Patient, patient.id) == patient


async def test_a_person_is_registered_once_and_a_retry_is_no_second_patient(box: Box) -> None:
    patient = await box.registers(CARD)
    assert await box.registers(CARD) == patient
    again = await box.registers(LI, "f" * 32)
    assert await box.registers(LI, "f" * 32) == again
    assert len(box.journal.sheets.find(Patient)) == 2
    assert box.actions() == [
        (NURSE.account, "create", patient.id),
        (NURSE.account, "read", patient.id),
        (NURSE.account, "create", again.id),
        (NURSE.account, "read", again.id),
    ]


async def test_a_refused_patient_leaves_nothing(box: Box) -> None:
    wrong = msgspec.structs.replace(CARD, sex=Sex.MALE)
    await refused("sex-differs", box.does(desk.register, NURSE, wrong))
    await refused("name-missing", box.does(desk.register, NURSE, Details()))
    assert box.journal.sheets.find(Patient) == []
    assert box.journal.stream_states() == []
    assert box.actions() == []


async def test_an_unknown_person_is_registered_by_one_button_and_linked_later(box: Box) -> None:
    unknown = await box.registers(Details(temporary=True))
    assert unknown.name == f"无名氏 {unknown.number[-4:]}"
    known = await box.registers(CARD)
    taken = msgspec.structs.replace(CARD, temporary=False)
    fix = box.does(desk.correct, NURSE, unknown.id, taken, "醒了")
    await refused("id-number-taken", fix)
    await refused("why-missing", box.does(desk.link, NURSE, unknown.id, known.id, " "))
    await box.does(desk.link, NURSE, unknown.id, known.id, "家属认出")
    assert people.whole(box.journal.sheets, known.id) == (known.id, unknown.id)
    await refused("link-twice", box.does(tray.bind, NURSE, "W1", unknown.id))
    await box.does(desk.unlink, NURSE, unknown.id, "认错了")
    assert box.journal.sheets.get(Patient, unknown.id) == unknown


@pytest.mark.parametrize(
    ("text", "found"),
    [("王", [0]), ("芳", [0]), ("002X", [0]), ("1234", [0]), ("", [1, 0]), ("nobody", []),
     ("12", []), ("强", [1]), ("ＷANG", [])],
)  # fmt: skip
async def test_a_patient_is_found_by_what_one_remembers(
    box: Box, text: str, found: list[int]
) -> None:
    directory = Directory(box.journal)
    everybody = [await box.registers(CARD, "0" * 32), await box.registers(LI, "1" * 32)]
    assert directory.search(text) == [everybody[index] for index in found]
    for patient in everybody:
        assert directory.search(people.number_text(patient.number)) == [patient]


async def test_the_directory_follows_what_is_committed(box: Box) -> None:
    directory = Directory(box.journal)
    assert directory.search("") == []
    patient = await box.registers(LI)
    better = msgspec.structs.replace(LI, name="李墙")
    await box.does(desk.correct, NURSE, patient.id, better, "听错了")
    await box.journal.transact(lambda book: None)
    assert [each.name for each in directory.search("李")] == ["李墙"]


# -- studies


async def test_a_study_with_the_right_number_joins_by_itself_and_can_be_taken_out(
    box: Box,
) -> None:
    patient = await box.registers(CARD)
    image = an_image(patient)
    assert await box.does(comes, image) == patient.id
    study = box.journal.sheets.get(Study, image.study)
    assert study is not None
    assert study.patient_id == patient.id
    await box.does(tray.unjoin, NURSE, image.study, "不是她的")
    (item,) = joins.tray(box.journal.sheets)
    assert item.reason is Reason.TAKEN_OUT
    # What a person took out does not come back by the rule, however many images follow.
    assert await box.does(comes, an_image(patient)) == ""
    assert box.actions()[1:] == [
        (tray.RULE, "join", patient.id),
        (NURSE.account, "sever", patient.id),
    ]


async def test_a_study_that_does_not_match_waits_until_somebody_joins_it(box: Box) -> None:
    patient = await box.registers(CARD)
    image = an_image(patient, birth_date="19491230")
    assert await box.does(comes, image) == ""
    (item,) = joins.tray(box.journal.sheets)
    assert item.reason is Reason.BIRTH_DATE_DIFFERS
    assert (item.device, item.label, item.claimed.name) == ("CT1", "CT", "Wang^Fang")
    await box.does(tray.join, NURSE, item.id, patient.id, "录入错误")
    await refused("join-twice", box.does(tray.join, NURSE, item.id, patient.id, "x"))
    await refused("item-unknown", box.does(tray.join, NURSE, "0" * 32, patient.id, "x"))
    study = box.journal.sheets.get(Study, image.study)
    assert study is not None
    assert study.patient_id == patient.id
    assert joins.tray(box.journal.sheets) == []
    await box.does(tray.unjoin, NURSE, item.id, "又不是")
    assert joins.tray(box.journal.sheets) == [item]


async def test_a_correction_lets_in_what_fits_and_puts_out_what_contradicts(box: Box) -> None:
    patient = await box.registers(LI)
    wrong = {"birth_date": "20010204", "name": ""}
    assert await box.does(comes, an_image(patient, 1, birth_date="20010203", name=""))
    assert not await box.does(comes, an_image(patient, 2, **wrong))
    better = msgspec.structs.replace(LI, birth_date=date(2001, 2, 4))
    await box.does(desk.correct, NURSE, patient.id, better, "看过户口本")
    owners = [
        joins.patient_of(box.journal.sheets, an_image(patient, number).study) for number in (1, 2)
    ]
    assert owners == ["", patient.id]
    (item,) = joins.tray(box.journal.sheets)
    assert item.reason is Reason.BIRTH_DATE_DIFFERS


# -- devices


async def test_readings_follow_the_binding_of_their_own_time(box: Box) -> None:
    wang, li = await box.registers(CARD), await box.registers(LI)
    first = await box.does(tray.bind, NURSE, "W1", wang.id, NOW_MS - 5000)
    await refused("device-bound", box.does(tray.bind, NURSE, "W1", li.id))
    await box.does(tray.release, NURSE, first, NOW_MS - 2000)
    await box.does(tray.bind, NURSE, "W1", li.id, NOW_MS - 1000)
    at = (NOW_MS - 6000, NOW_MS - 4000, NOW_MS - 1500, NOW_MS - 500)
    owners = [await box.does(reads, each) for each in at]
    assert owners == ["", wang.id, "", li.id]
    bound = await box.journal.transact(lambda book: tray.worn_now(book, "W1"))
    assert bound is not None
    assert bound.patient == li.id
    for moment in (NOW_MS + 1, NOW_MS - tray.BACK_MS - 1):
        await refused("binding-time", box.does(tray.bind, NURSE, "W2", li.id, moment))
    await refused("binding-end", box.does(tray.release, NURSE, bound.id, NOW_MS + 1))
    await refused("binding-unknown", box.does(tray.release, NURSE, "0" * 32))
    assert [row[1:] for row in box.actions()[2:]] == [
        ("bind", wang.id),
        ("unbind", wang.id),
        ("bind", li.id),
    ]


async def test_the_wrong_patients_binding_is_cut_and_its_readings_are_joined_to_the_right_one(
    box: Box,
) -> None:
    wang, li = await box.registers(CARD), await box.registers(LI)
    binding = await box.does(tray.bind, NURSE, "W1", wang.id, NOW_MS - 5000)
    for at in (NOW_MS - 4000, NOW_MS - 3000):
        assert await box.does(reads, at) == wang.id
    await box.does(tray.release, NURSE, binding, NOW_MS - 5000, "戴错人了")
    assert not box.journal.sheets.find(Reading, owner=wang.id)
    (item,) = joins.tray(box.journal.sheets)
    assert (item.from_ms, item.to_ms) == (NOW_MS - 4000, NOW_MS - 3000)
    assert item.reason is Reason.BINDING_CUT
    await box.does(tray.join, NURSE, item.id, li.id, "当时戴在他手上")
    assert len(box.journal.sheets.find(Reading, owner=li.id)) == 2


# -- who looked


async def test_every_look_is_written_down_also_one_that_says_it_is_quiet(box: Box) -> None:
    patient = await box.registers(LI)
    clock = SimpleNamespace(now_ms=NOW_MS)
    reads = Reads(cast("Any", SimpleNamespace(journal=box.journal, clock=clock)))

    async def looks(quiet: bool) -> int:
        headers = {QUIET: "1"} if quiet else {}
        visit = SimpleNamespace(
            actor=SimpleNamespace(id="f" * 32), request=SimpleNamespace(headers=headers)
        )
        await reads.note(cast("Any", visit), f"patient/{patient.id}")
        return box.actions().count(("f" * 32, "read", patient.id))

    assert await looks(quiet=True) == 1
    assert await looks(quiet=True) == 1  # the same look
    assert await looks(quiet=False) == 2
    clock.now_ms += 3_600_000
    assert await looks(quiet=True) == 3


# -- the same records at the hub


class Hub:
    """A real database and the hub's real meanings; records come stream by stream."""

    def __init__(self, folder: Path) -> None:
        self.database = Database(sqlite_url(folder / "hub.db"))
        self.vault = Vault(FileKeys(folder / "hub-keys"), self.database)
        self.outbox = Outbox(self.vault)

    def page(self, db: Connection, node: str) -> HubPage:
        return HubPage(db, self.vault, self.outbox, NOW_MS, node)

    async def hears(self, journal: Journal, streams: list[str], node: str = NODE) -> None:
        def take(db: Connection) -> None:
            page = self.page(db, node)
            page.keep_pseudonym_key()
            for stream in streams:
                for entry in journal.read(stream, 1, 1000, 1 << 24).records:
                    record = decode(entry)
                    body = kinds.open_body(record)
                    HUB_MEANINGS[type(body)](page, record, body)

        await self.database.write(take)

    async def all(self, kind: Any) -> list[Any]:
        return await self.database.read(lambda db: self.page(db, "").find(kind))


async def a_day(box: Box) -> None:
    """A little of everything."""
    wang, li = await box.registers(CARD), await box.registers(LI)
    unknown = await box.registers(Details(temporary=True))
    await box.does(desk.link, NURSE, unknown.id, wang.id, "家属认出")
    binding = await box.does(tray.bind, NURSE, "W1", wang.id, NOW_MS - 5000)
    for at in range(NOW_MS - 6000, NOW_MS - 1000, 700):
        await box.does(reads, at)
    await box.does(tray.release, NURSE, binding, NOW_MS - 3000, "")
    (item, *_) = joins.tray(box.journal.sheets)
    await box.does(tray.join, NURSE, item.id, li.id, "看见的")
    await box.does(comes, an_image(wang, 1))
    await box.does(comes, an_image(wang, 2, sex="M"))
    await box.does(comes, an_image(wang, 3))
    await box.does(tray.unjoin, NURSE, an_image(wang, 3).study, "不对")
    await box.does(tray.join, NURSE, an_image(wang, 2).study, li.id, "不对")
    better = msgspec.structs.replace(LI, phone="12345")
    await box.does(desk.correct, NURSE, li.id, better, "换号")


@pytest.mark.parametrize("people_first", [True, False])
async def test_the_hub_comes_to_the_same_in_whatever_order_the_streams_arrive(
    box: Box, tmp_path: Path, people_first: bool
) -> None:
    await a_day(box)
    hub = Hub(tmp_path)
    async with hub.database:
        streams = ["record.people", "record.imaging", "vitals.readings"]
        await hub.hears(box.journal, streams if people_first else streams[::-1])
        for kind in (Patient, Binding, Reading, Study):
            here = {each.index().key: each for each in box.journal.sheets.find(kind)}
            assert {each.index().key: each for each in await hub.all(kind)} == here
        joined = {each.id: each for each in box.journal.sheets.find(Item, state=joins.JOINED)}
        found = await hub.all(Item)
        assert {each.id: each for each in found if each.join} == joined
        assert len(joined) == 3


async def test_a_box_says_nothing_of_another_clinics_patients(box: Box, tmp_path: Path) -> None:
    await a_day(box)
    hub = Hub(tmp_path)
    async with hub.database:
        with pytest.raises(RecordError) as caught:
            await hub.hears(box.journal, ["record.people"], "n0123456789ac")
        assert caught.value.code == "patient-foreign"
