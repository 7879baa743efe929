"""After the acknowledgement: the worst case first, and stopped while an alarm begins to ring."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import psutil
import pytest

from lianzhen_edge.dicom import preparation
from lianzhen_edge.dicom.order import level_of
from lianzhen_edge.dicom.shelf import NEW, READY, Shelf
from lianzhen_edge.journal.book import Book
from lianzhen_protocol import imaging
from lianzhen_protocol.acuity import Acuity, Level
from lianzhen_protocol.alarms import Alarm, Condition, Severity
from lianzhen_protocol.imaging import Instance, Study
from lianzhen_protocol.triage import (
    Cause,
    Clinician,
    TriageDecided,
    TriageSuggested,
    TriageSuggestion,
    Verdict,
)
from support.fleet import until
from support.imaging_box import NODE, ImagingBox, imaging_box


@pytest.fixture
async def box(tmp_path: Path) -> AsyncIterator[ImagingBox]:
    async with imaging_box(tmp_path) as made:
        yield made


def suggestion(patient: str, level: Level | None, decided: Level | None = None) -> TriageSuggestion:
    acuity = Acuity(level=level, minutes=None, complete=True, reasons=(), table="t")
    said = TriageSuggested(
        suggestion_id=f"s-{patient}", patient_id=patient, at_ms=1, cause=Cause.VITALS, acuity=acuity
    )
    if decided is None:
        return TriageSuggestion(suggested=said)
    decision = TriageDecided(
        suggestion_id=f"s-{patient}", patient_id=patient, verdict=Verdict.OVERRIDDEN,
        level=decided, by=Clinician(account="1", name="王"), at_ms=2, why="seen",
    )  # fmt: skip
    return TriageSuggestion(suggested=said, decided=decision)


LEVELS = {
    "calm": (Level.NON_URGENT, None),
    "sick": (Level.URGENT, None),
    "worst": (Level.SEMI_URGENT, Level.IMMEDIATE),
}


async def joined(box: ImagingBox, patients: tuple[str, ...]) -> None:
    """Each study to its patient, and what triage makes of them."""

    def work(book: Book) -> None:
        for number, patient in enumerate(patients):
            study = book.get(Study, imaging.study_key(NODE, f"1.2.{number}"))
            assert study is not None
            book.put(msgspec.structs.replace(study, patient_id=patient))
            book.put(suggestion(patient, *LEVELS[patient]))

    await box.journal.transact(work)


async def test_the_worst_case_goes_first_however_late_it_came(box: ImagingBox) -> None:
    patients = ("calm", "sick", "worst")
    for number in range(3):
        for image in range(2):
            box.comes(10 * number + image, StudyInstanceUID=f"1.2.{number}")
    await box.catches_up()
    order = box.imaging.preparation.order
    assert order.first() == []  # nobody knows whose they are
    await joined(box, patients)
    assert level_of(box.journal.sheets, "worst") is Level.IMMEDIATE
    await until(lambda: len(order.first()) == 4)
    numbers = {image.id: image.instance_number for image in box.images()}
    assert [numbers[key] for key in order.first()] == [20, 21, 10, 11]
    assert [numbers[shelf.id] for shelf in box.imaging.preparation._next()] == [20, 21, 10, 11]

    def made(book: Book) -> None:
        for shelf in book.find(Shelf):
            book.put(msgspec.structs.replace(shelf, preview=READY))

    await box.journal.transact(made)
    jobs = [numbers[job.shelf.id] for job in box.imaging.uploader._jobs() if not job.instance]
    assert jobs[:4] == [20, 21, 10, 11]
    jobs = [numbers[job.shelf.id] for job in box.imaging.uploader._jobs() if job.instance]
    assert jobs[:4] == [20, 21, 10, 11]

    def arrived(book: Book) -> None:
        for image in book.find(Instance):
            body = imaging.ImageReceived(instance=image.id, sha256=image.sha256, received_ms=1)
            imaging.received(book, body)

    await box.journal.transact(arrived)
    await until(lambda: order.first() == [])


def previews(box: ImagingBox) -> list[str]:
    return [shelf.preview for shelf in box.journal.sheets.find(Shelf)]


async def test_an_alarm_stops_the_worker_within_its_image_until_it_is_told(
    box: ImagingBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparation, "YIELD_SECONDS", 3600.0)
    prepares = box.imaging.preparation
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(prepares.run()), tasks.create_task(prepares.watch())]
        box.comes(1)
        await box.catches_up()
        await until(lambda: previews(box) == [READY])
        process = prepares._worker._process
        assert process is not None
        worker = psutil.Process(process.pid)
        alarm = Alarm(
            id="a" * 32, condition=Condition.NEWS2, severity=Severity.EMERGENCY, causes=(),
            patient_id="p", measured_ms=1, raised_ms=1,
        )  # fmt: skip
        await box.journal.transact(lambda book: book.put(alarm))
        await until(lambda: worker.status() == psutil.STATUS_STOPPED)
        box.comes(2)
        await box.catches_up()
        assert sorted(previews(box)) == [NEW, READY]
        assert not prepares._rings.is_set()  # taken up
        prepares.go_on()
        await until(lambda: previews(box) == [READY, READY])
        assert prepares._worker._process is process  # it went on, and was not begun again
        eased = msgspec.structs.replace(alarm, eased_ms=5)
        await box.journal.transact(lambda book: book.put(eased))
        assert not prepares._rings.is_set()  # it rings no more than before
        for one in running:
            one.cancel()
