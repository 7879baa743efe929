"""Asking the triage process. Whatever is wrong with it, there is an answer, and soon."""

import asyncio
from pathlib import Path
from typing import Final

import msgspec

from lianzhen_protocol.triage import Abstained, Forecast, Silence
from lianzhen_runtime.commandline import Refused, ask
from lianzhen_runtime.errors import Unavailable
from lianzhen_runtime.log import Log

from .bundle import ModelRefused, Patient

ANSWER_SECONDS: Final = 2.0
_log = Log("lianzhen.triage.client")


async def forecast(socket: Path, patient: Patient, seconds: float = ANSWER_SECONDS) -> Forecast:
    """The learned score, or one that says why there is none; it never takes longer, nor raises."""
    asked = msgspec.json.encode(patient)
    try:
        async with asyncio.timeout(seconds):
            found = await ask("lianzhen-edge", socket, "POST", "/forecast", data=asked)
            answer = msgspec.convert(found, Forecast)
    except Refused as refusal:
        away = refusal.code != ModelRefused.code
        return _silent(Abstained.MODEL_AWAY if away else Abstained.MODEL_REFUSED, refusal.code)
    except (Unavailable, TimeoutError, msgspec.MsgspecError) as error:
        return _silent(Abstained.MODEL_AWAY, type(error).__name__)
    _log.transition("triage", "answers")
    return answer


def _silent(why: Abstained, code: str) -> Forecast:
    _log.transition("triage", f"does not answer ({why})", bad=True, code=code)
    return Forecast(silence=(Silence(code=why),))
