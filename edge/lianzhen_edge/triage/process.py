"""The triage process: the model behind a socket that only its owner may open.

It is a process of its own so that a fault in native code, or a model that takes long, ends or
delays nothing else. Where the model is refused it stays up and says so.
"""

import asyncio
import os
from pathlib import Path
from typing import Final

import msgspec
from aiohttp import web

from lianzhen_edge.settings import Settings
from lianzhen_runtime import log
from lianzhen_runtime.files import private_folder
from lianzhen_runtime.http import serving
from lianzhen_runtime.problems import json_answer, problems

from .bundle import FOLDER, ModelRefused, Patient
from .model import Model
from .socket import SOCKET

NICE: Final = 10
_patients = msgspec.json.Decoder(Patient)
_log = log.Log("lianzhen.triage")


async def run(settings: Settings, models: Path = FOLDER) -> None:
    """Serve until cancelled."""
    log.configure(settings.log_level)
    log.keep(settings.folder, "triage", settings.log_bytes)
    os.nice(NICE)  # vitals and images go first
    found = _load(models)
    async with serving(application(found), path=private_folder(settings.folder) / SOCKET):
        _log.info("triage runs", status="refused" if isinstance(found, ModelRefused) else "ready")
        await asyncio.Event().wait()


def _load(models: Path) -> Model | ModelRefused:
    try:
        return Model(models)
    except ModelRefused as refusal:
        _log.error("model refused", code=refusal.code)
        return refusal


def application(model: Model | ModelRefused) -> web.Application:
    """POST /forecast: a Patient in, a Forecast out; 503 ``model-refused`` where there is none."""

    async def forecast(request: web.Request) -> web.Response:
        patient = _patients.decode(await request.read())
        if isinstance(model, ModelRefused):
            raise model
        return json_answer(model.forecast(patient))

    app = web.Application(middlewares=[problems])
    app.add_routes([web.post("/forecast", forecast)])
    return app
