"""At the clinic: suggestions on a real journal, with the model's process there, slow or away."""

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from lianzhen_edge.settings import Settings
from lianzhen_edge.triage import client, process
from lianzhen_edge.triage.bundle import FOLDER, ModelRefused, Patient
from lianzhen_edge.triage.desk import NoSuchPatient
from lianzhen_edge.triage.model import Model
from lianzhen_edge.triage.process import application
from lianzhen_edge.triage.socket import SOCKET
from lianzhen_edge.triage.watch import Watch
from lianzhen_protocol import news2
from lianzhen_protocol.acuity import Level
from lianzhen_protocol.consultation import Consultation, State
from lianzhen_protocol.errors import RecordError
from lianzhen_protocol.news2 import Exempt
from lianzhen_protocol.triage import Abstained, Clinician, Forecast, Verdict
from lianzhen_runtime.child import Child, own_command
from lianzhen_runtime.http import serving
from lianzhen_runtime.supervise import supervised
from support.people import a_patient
from support.triage import ILL, NURSE, WELL, Clinic


@pytest.fixture
async def clinic(tmp_path: Path) -> AsyncIterator[Clinic]:
    made = Clinic(tmp_path)
    await made.open()
    yield made
    await made.journal.close()


@pytest.fixture
async def model(clinic: Clinic) -> AsyncIterator[None]:
    """The triage process's own application, within this program."""
    async with serving(application(Model()), path=clinic.folder / SOCKET):
        yield


def silence(found: Forecast | None) -> list[Abstained]:
    assert found is not None
    return [each.code for each in found.silence]


@pytest.mark.usefixtures("model")
async def test_vitals_become_a_suggestion_with_all_that_it_rests_on(clinic: Clinic) -> None:
    patient = await clinic.register()
    await clinic.measure(patient, ILL)
    made = await clinic.desk.suggest(patient, NURSE)
    assert made.level is Level.URGENT
    assert made.news2 is not None
    assert made.news2.total == 13
    assert made.forecast is not None
    assert made.forecast.raised
    assert made.forecast.sha256 == Model().bundle.sha256
    assert len({seen.reading_id for seen in made.seen}) == 1
    assert made.asked_by == NURSE
    (shown,) = clinic.suggestions(patient)
    assert shown.suggested == made


async def test_without_the_process_it_is_made_from_news2_alone_and_says_so(clinic: Clinic) -> None:
    patient = await clinic.register()
    await clinic.measure(patient, ILL)
    made = await clinic.desk.suggest(patient, NURSE)
    assert made.level is Level.URGENT
    assert silence(made.forecast) == [Abstained.MODEL_AWAY]


async def answering(answer: web.StreamResponse | None) -> web.Application:
    async def forecast(_request: web.Request) -> web.StreamResponse:
        if answer is not None:
            return answer
        await asyncio.sleep(1.5)  # longer than anybody waits
        return web.Response()

    app = web.Application()
    app.add_routes([web.post("/forecast", forecast)])
    return app


ADULT = Patient(age_years=70, pregnant=None, vitals=news2.Vitals())


@pytest.mark.parametrize(
    "answer",
    [
        None,
        web.Response(text="not JSON"),
        web.json_response({"probability": "high"}),
        web.json_response({"detail": "?", "code": "internal"}, status=500),
    ],
    ids=["slow", "garbage", "another shape", "a bug"],
)
async def test_a_process_that_is_not_well_never_keeps_anybody_waiting(
    tmp_path: Path, answer: web.StreamResponse | None
) -> None:
    async with serving(await answering(answer), path=tmp_path / SOCKET):
        found = await client.forecast(tmp_path / SOCKET, ADULT, seconds=0.3)
    assert silence(found) == [Abstained.MODEL_AWAY]


async def test_a_refused_model_is_told_as_such(clinic: Clinic, tmp_path: Path) -> None:
    app = application(ModelRefused("changed"))
    async with serving(app, path=clinic.folder / SOCKET):
        found = await client.forecast(tmp_path / SOCKET, ADULT)
    assert silence(found) == [Abstained.MODEL_REFUSED]


@pytest.mark.parametrize(
    ("changes", "exempt"),
    [
        ({"birth_date": date(2015, 1, 1)}, Exempt.UNDER_16),
        ({"birth_date": date(1995, 1, 1), "pregnant": True}, Exempt.PREGNANT),
    ],
)
async def test_who_is_not_scored_is_told_so(
    clinic: Clinic, changes: dict[str, Any], exempt: Exempt
) -> None:
    patient = await clinic.register(a_patient(**changes))
    await clinic.measure(patient, ILL)
    made = await clinic.desk.suggest(patient, NURSE)
    assert (made.exempt, made.level, made.news2, made.forecast) == (exempt, None, None, None)
    assert clinic.journal.sheets.find(Consultation, owner=patient) == []


async def test_nobody_is_suggested_for_who_is_no_patient(clinic: Clinic) -> None:
    with pytest.raises(NoSuchPatient):
        await clinic.desk.suggest("f" * 32, NURSE)


# -- decisions


async def test_a_decision_is_a_named_clinicians_and_is_the_drafts_level(clinic: Clinic) -> None:
    patient = await clinic.register()
    await clinic.measure(patient, ILL)
    made = await clinic.desk.suggest(patient, NURSE)
    (draft,) = clinic.journal.sheets.find(Consultation, owner=patient)
    assert (draft.state, draft.acuity) == (State.DRAFT, 2)
    await clinic.desk.decide(
        *(made.suggestion_id, patient, Verdict.OVERRIDDEN, Level.IMMEDIATE, NURSE, " 大汗淋漓 ")
    )
    (shown,) = clinic.suggestions(patient)
    assert shown.decided is not None
    assert (shown.state, shown.decided.why, shown.decided.by) == ("overridden", "大汗淋漓", NURSE)
    (draft,) = clinic.journal.sheets.find(Consultation, owner=patient)
    assert (draft.state, draft.acuity) == (State.DRAFT, 1)


async def test_a_well_patient_has_no_draft(clinic: Clinic) -> None:
    patient = await clinic.register()
    await clinic.measure(patient, WELL)
    made = await clinic.desk.suggest(patient, NURSE)
    assert made.level is Level.NON_URGENT
    await clinic.desk.decide(
        made.suggestion_id, patient, Verdict.ACCEPTED, Level.NON_URGENT, NURSE, ""
    )
    assert clinic.journal.sheets.find(Consultation, owner=patient) == []


async def test_what_is_no_decision_leaves_no_trace(clinic: Clinic) -> None:
    patient = await clinic.register()
    await clinic.measure(patient, ILL)
    made = await clinic.desk.suggest(patient, NURSE)
    nobody = Clinician(account="", name="")
    decisions = [
        (Verdict.OVERRIDDEN, Level.IMMEDIATE, NURSE, " "),
        (Verdict.ACCEPTED, Level.IMMEDIATE, NURSE, ""),
        (Verdict.ACCEPTED, Level.URGENT, nobody, ""),
    ]
    before = clinic.journal.stream_states()
    for verdict, level, by, why in decisions:
        with pytest.raises(RecordError):
            await clinic.desk.decide(made.suggestion_id, patient, verdict, level, by, why)
    assert clinic.journal.stream_states() == before
    assert clinic.suggestions(patient)[0].state == "suggested"


async def test_the_second_scale_changes_the_next_suggestion(clinic: Clinic) -> None:
    patient = await clinic.register()
    await clinic.measure(patient, WELL | {"spo2": 89})
    assert (await clinic.desk.suggest(patient, NURSE)).level is Level.URGENT
    await clinic.desk.set_scale(patient, 2, NURSE, "慢阻肺, Ⅱ型呼衰")
    assert (await clinic.desk.suggest(patient, NURSE)).level is Level.NON_URGENT


# -- by itself


@asynccontextmanager
async def watching(clinic: Clinic) -> AsyncIterator[None]:
    watch = Watch(clinic.journal, clinic.desk, seconds=0.01)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(watch.run())
        yield
        task.cancel()


async def until(clinic: Clinic, patient: str, enough: Callable[[int], bool]) -> None:
    changed = asyncio.Event()
    clinic.journal.on_change(lambda _sheets: changed.set())
    async with asyncio.timeout(60):
        while not enough(len(clinic.suggestions(patient))):
            await changed.wait()
            changed.clear()


async def test_new_vitals_are_enough_to_have_a_suggestion(clinic: Clinic) -> None:
    patient, other = await clinic.register(), await clinic.register(a_patient(2))
    async with watching(clinic):
        await clinic.measure(patient, WELL)
        await until(clinic, patient, lambda count: count == 1)
        clinic.now_ms += 60_000
        await clinic.measure(patient, WELL | {"pulse": 75})  # says nothing new
        await clinic.measure(other, {"pulse": 72})  # a single sign, and a quiet one
        await clinic.measure("e" * 32, ILL)  # nobody's device
        clinic.now_ms += 60_000
        await clinic.measure(patient, ILL)
        await until(clinic, patient, lambda count: count >= 2)
    assert [each.state for each in clinic.suggestions(patient)] == ["superseded", "suggested"]
    assert clinic.suggestions(other) == []


async def test_a_model_that_was_away_is_asked_again_with_the_same_vitals(clinic: Clinic) -> None:
    patient = await clinic.register()
    async with watching(clinic):
        await clinic.measure(patient, ILL)
        await until(clinic, patient, lambda count: count == 1)
        clinic.now_ms += 1_000
        async with serving(application(Model()), path=clinic.folder / SOCKET):
            await until(clinic, patient, lambda count: count == 2)
    old, new = (each.suggested.forecast for each in clinic.suggestions(patient))
    assert silence(old) == [Abstained.MODEL_AWAY]
    assert new is not None
    assert new.raised


async def test_a_single_red_sign_is_enough(clinic: Clinic) -> None:
    patient = await clinic.register()
    async with watching(clinic):
        await clinic.measure(patient, {"pulse": 190})
        await until(clinic, patient, lambda count: count == 1)
    assert clinic.suggestions(patient)[0].suggested.level is Level.IMMEDIATE


# -- the process itself


async def answered(folder: Path, patient: Patient) -> Forecast:
    """Ask until somebody is there."""
    found = await client.forecast(folder / SOCKET, patient)
    async with asyncio.timeout(60):
        while Abstained.MODEL_AWAY in silence(found):
            await asyncio.sleep(0.05)
            found = await client.forecast(folder / SOCKET, patient)
    return found


WELL_ADULT = Patient(
    age_years=70,
    pregnant=None,
    vitals=news2.Vitals(
        respiration=16,
        spo2=97,
        oxygen=False,
        systolic=124,
        pulse=72,
        consciousness=news2.Consciousness.ALERT,
        temperature=36.8,
    ),
)


async def test_a_killed_process_comes_back_and_nobody_waits_for_it(clinic: Clinic) -> None:
    patient = await clinic.register()
    await clinic.measure(patient, ILL)
    child = Child("triage", own_command("lianzhen_edge", "--state", str(clinic.folder), "triage"))
    async with asyncio.TaskGroup() as tasks:
        service = tasks.create_task(supervised("triage", child.run, base=0.5))
        before = await answered(clinic.folder, WELL_ADULT)
        assert before.probability is not None
        assert (clinic.folder / SOCKET).stat().st_mode & 0o777 == 0o600
        pid = child.pid
        assert pid is not None
        assert os.getpriority(os.PRIO_PROCESS, pid) >= 10
        os.kill(pid, signal.SIGKILL)
        made = await clinic.desk.suggest(patient, NURSE)
        assert silence(made.forecast) == [Abstained.MODEL_AWAY]
        assert made.level is Level.URGENT
        assert await answered(clinic.folder, WELL_ADULT) == before
        assert child.pid not in {None, pid}
        again = await clinic.desk.suggest(patient, NURSE)
        assert again.forecast is not None
        assert again.forecast.probability is not None
        service.cancel()


async def test_a_tampered_model_is_refused_by_the_process_and_the_rest_goes_on(
    clinic: Clinic, tmp_path: Path
) -> None:
    models = Path(shutil.copytree(FOLDER, tmp_path / "models"))
    onnx = models / Model().bundle.onnx
    onnx.write_bytes(onnx.read_bytes()[:-1] + b"\0")
    patient = await clinic.register()
    await clinic.measure(patient, ILL)
    async with asyncio.TaskGroup() as tasks:
        settings = Settings(state=str(clinic.folder))
        task = tasks.create_task(process.run(settings, models))
        assert silence(await answered(clinic.folder, WELL_ADULT)) == [Abstained.MODEL_REFUSED]
        made = await clinic.desk.suggest(patient, NURSE)
        assert silence(made.forecast) == [Abstained.MODEL_REFUSED]
        assert made.level is Level.URGENT
        task.cancel()
