"""What must be true at the end of the story, read from tables and tray, not from a page's word."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydicom
from sqlalchemy import Connection, text

import story as told
from lab import LabError, wait_until
from lianzhen_hub.store.database import open_engine, sqlite_url
from story import Story
from support.telling import scans

IMAGES = told.SLICES + 2

ONCE = {
    "patient.registered": 1,
    "ae.admitted": 1,
    "device.bound": 1,
    "wearable.added": 1,
    "image.stored": IMAGES,
    "vitals.reading": 3,
    "alarm.raised": 1,
    "alarm.acknowledged": 1,
    "triage.decided": 1,
    "settlement.coverage": 1,
    "settlement.pending": 1,
}
"""Records from the box at the hub: what was done once is there once, whoever died meanwhile."""

SHEETS = {
    "patient": 1,
    "study": 3,
    "instance": IMAGES,
    "reading": 3,
    "alarm": 1,
    "consultation": 1,
    "opinion": 1,
    "settlement": 1,
    "earning": 1,
}
"""What they come to."""

TRANSFERS = {
    ("settlement", "pending"): 2,  # the fund's part and the patient's
    ("settlement", "post"): 2,
    ("pay", "direct"): 1,
}


def holds(story: Story) -> None:
    """Nothing is lost, doubled or shown wrongly."""
    story.hub.wait()
    story.box.wait()
    wait_until("a drained box", story.box.drained)
    _tables(story)
    told.look(story)  # every pixel at the hub once more, after all the deaths
    told.balance(story)
    told.audit(story)
    told.rest(story)
    _shown(story)
    assert len(story.printer.printed()) == 1, "a sheet was printed twice"


@contextlib.contextmanager
def _hub_tables(story: Story) -> Iterator[Connection]:
    engine = open_engine(story.hub.database or sqlite_url(story.hub.state / "hub.db"))
    try:
        with engine.connect().execution_options(reader=True) as connection:
            yield connection
    finally:
        engine.dispose()


def _tables(story: Story) -> None:
    with _hub_tables(story) as database:

        def rows(query: str) -> list[Any]:
            return list(database.execute(text(query)))

        def numbers(query: str) -> dict[str, int]:
            return {name: int(number) for name, number in rows(query)}

        records = numbers("SELECT kind, count(*) FROM record GROUP BY 1")
        sheets = numbers("SELECT kind, count(*) FROM sheet GROUP BY 1")
        assert {kind: records.get(kind) for kind in ONCE} == ONCE
        assert {kind: sheets.get(kind) for kind in SHEETS} == SHEETS
        moved = "SELECT journal, step, count(*), count(DISTINCT claim) FROM transfer GROUP BY 1, 2"
        found = rows(moved)
        assert {(journal, step): int(n) for journal, step, n, _ in found} == TRANSFERS
        assert {int(claims) for *_, claims in found} == {1}, "more than one claim"
        logged = numbers("SELECT stream, sum(count) FROM log GROUP BY 1")
        applied = numbers("SELECT stream, count(*) FROM record GROUP BY 1")
        last = numbers("SELECT stream, max(seq) FROM record GROUP BY 1")
        assert logged == applied == last, "a record is lost, or lies in the log twice"
        assert not rows("SELECT code, reason FROM quarantine")
        assert not rows("SELECT code, detail FROM notice")
    kept = {row["stream"]: row["last"] for row in story.box.status()["streams"]}
    assert {name: last.get(name, 0) for name in kept} == kept, "the box says that it sent more"


def _shown(story: Story) -> None:
    """Clinic and hub show the same consultation at its end, and nothing that came back."""
    doctor, expert = story.at("doctor"), story.at("expert")
    patient, case = story.seen["patient"], story.seen["case"]
    here = doctor.get(f"/consultations/{case}")
    there = expert.get(f"/cases/{case}")["case"]
    assert here["case"]["state"] == there["state"] == "completed"
    assert not here["case"]["refused"]
    assert not here["case"]["waiting"]
    board = doctor.get(f"/patients/{patient}/consultations")["board"]
    assert [row["id"] for row in (*board["open"], *board["ended"])] == [case]
    (bill,) = doctor.get(f"/patients/{patient}/settlement")["bills"]
    assert bill["settlement"]["state"] == "posted"
    assert own_states(story) <= {"safe", "seen"}
    assert image_states(story) == ["safe"] * IMAGES


def own_states(story: Story) -> set[str]:
    """What the clinic shows became of what it did with the consultation."""
    own = story.at("doctor").get(f"/consultations/{story.seen['case']}")["own"]
    return {one["item"]["state"] for one in own}


def image_states(story: Story) -> list[str]:
    """The same for each image of the patient."""
    found = story.at("nurse").get(f"/patients/{story.seen['patient']}/imaging")["found"]
    return [image["state"] for study in found for image in study["images"]]


# -- at rest


def secrets_of(story: Story) -> dict[str, bytes]:
    """What may lie nowhere in clear, by what it is."""
    texts = {
        "name": told.PATIENT,
        "ID number": told.ID_NUMBER,
        "number": story.seen["number"],
        "complaint": told.COMPLAINT,
        **told.OPINION,
    }
    found = {}
    for what, secret in texts.items():
        for coding in ("utf-8", "gb18030", "utf-16-le", "unicode-escape"):
            found[f"{what} as {coding}"] = secret.encode(coding)
    for path in sorted(scans(story).iterdir()):
        for number, run in enumerate(_runs(pydicom.dcmread(path).PixelData)):
            found[f"pixels {number} of {path.name}"] = run
    return found


def _runs(pixels: bytes, count: int = 5, size: int = 64) -> Iterator[bytes]:
    """Runs of pixels that are nothing but this image: no black border, no even ground."""
    step = len(pixels) // (4 * count)
    telling = (pixels[at : at + size] for at in range(step, len(pixels) - size, step))
    chosen = [run for run in telling if len(set(run)) >= size // 4][:count]
    if not chosen:
        raise LabError("an image without anything in it proves nothing")
    yield from chosen


def in_clear(folder: Path, secrets: dict[str, bytes]) -> list[str]:
    """Which of them lie in which file below ``folder``."""
    found = []
    for path in sorted(each for each in folder.rglob("*") if each.is_file()):
        content = path.read_bytes()
        found += [f"{what} in {path.name}" for what, it in secrets.items() if it in content]
    return found
