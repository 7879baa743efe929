"""Asking the triage process. Whatever is wrong with it, there is an answer, and soon."""

import asyncio
from pathlib import Path
from typing import Final

import aiohttp
import msgspec

from lianzhen_protocol.triage import Abstained, Forecast, Silence
from lianzhen_runtime.log import Log

from .bundle import ModelRefused, Patient

ANSWER_SECONDS: Final = 2.0
_log = Log("lianzhen.triage.client")


async def forecast(socket: Path, patient: Patient, seconds: float = ANSWER_SECONDS) -> Forecast:
    """The learned score, or one that says why there is none; it never takes longer, nor raises."""
    try:
        async with (
            asyncio.timeout(seconds),
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(path=str(socket))) as session,
            session.post("http://triage/forecast", data=msgspec.json.encode(patient)) as reply,
        ):
            said = await reply.read()
        if reply.status >= 400:
            code = str(msgspec.json.decode(said)["code"])
            away = code != ModelRefused.code
            return _silent(Abstained.MODEL_AWAY if away else Abstained.MODEL_REFUSED, code)
        answer = msgspec.json.decode(said, type=Forecast)
    except (aiohttp.ClientError, OSError, TimeoutError, msgspec.MsgspecError) as error:
        return _silent(Abstained.MODEL_AWAY, type(error).__name__)
    _log.transition("triage", "answers")
    return answer


def _silent(why: Abstained, code: str) -> Forecast:
    _log.transition("triage", f"does not answer ({why})", bad=True, code=code)
    return Forecast(silence=(Silence(code=why),))
