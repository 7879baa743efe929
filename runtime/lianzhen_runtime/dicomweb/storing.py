"""STOW-RS (PS3.18, 10.5): parts as they come, and what is answered for each."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final, NamedTuple

from aiohttp import ClientPayloadError, web

from lianzhen_runtime.errors import LianzhenError

from .media import DICOM
from .multipart import MultipartBroken, Part, Reader, boundary_of

MOST_PART: Final = 256 << 20
MOST_PARTS: Final = 5000
SILENCE_SECONDS: Final = 60.0
"""After that long without a byte a line is taken for dead."""

# PS3.18, annex I, and PS3.7, annex C
CANNOT_UNDERSTAND, NOT_THIS_STUDY, DUPLICATE, NOT_AUTHORISED = 0xC000, 0xA900, 0x0111, 0x0124
PROCESSING_FAILED: Final = 0x0110


class NothingToStore(LianzhenError):
    """A message without a single instance."""

    code = "nothing-to-store"
    http_status = 400


class TooMany(LianzhenError):
    """More instances than one request may have."""

    code = "too-many-instances"
    http_status = 413


class TypeNotTaken(LianzhenError):
    """The message is not of a kind that is stored."""

    code = "type-not-taken"
    http_status = 415


class Outcome(NamedTuple):
    """What became of one instance. ``failure`` 0: it is durable; else the reason why it is not."""

    sop_class: str
    sop_uid: str
    failure: int = 0
    address: str = ""


async def parts(request: web.Request) -> AsyncIterator[Part]:
    """Part 10 files as they come, one in memory at a time."""
    try:
        boundary = boundary_of(request.headers.get("Content-Type", ""), DICOM)
    except MultipartBroken as error:
        raise TypeNotTaken(str(error)) from error
    reader, count = Reader(boundary, MOST_PART), 0
    async for content in _body(request):
        for part in reader.feed(content):
            count += 1
            if count > MOST_PARTS:
                raise TooMany(f"store at most {MOST_PARTS} instances at once")
            yield part
    reader.finish()


async def _body(request: web.Request) -> AsyncIterator[bytes]:
    found = request.content.iter_any()
    while True:
        try:
            async with asyncio.timeout(SILENCE_SECONDS):
                content = await anext(found)
        except StopAsyncIteration:
            return
        except (OSError, TimeoutError, ClientPayloadError) as error:
            raise MultipartBroken("the line ended before the message did") from error
        yield content


def status_of(outcomes: Sequence[Outcome]) -> int:
    """200: all are durable; 202: some; 409: none."""
    failed = sum(one.failure != 0 for one in outcomes)
    if not failed:
        return 200
    return 409 if failed == len(outcomes) else 202


def report(outcomes: Sequence[Outcome], study: str) -> dict[str, Any]:
    """The Store Instances Response Module (PS3.18, I.2) as DICOM JSON."""
    done = [_referenced(one) | {"00081190": _value("UR", one.address)} for one in outcomes]
    kept = [item for item, one in zip(done, outcomes, strict=True) if not one.failure]
    failed = [
        _referenced(one) | {"00081197": _value("US", one.failure)}
        for one in outcomes
        if one.failure
    ]
    found: dict[str, Any] = {}
    if study and kept:
        found["00081190"] = _value("UR", study)
    if failed:
        found["00081198"] = {"vr": "SQ", "Value": failed}
    if kept:
        found["00081199"] = {"vr": "SQ", "Value": kept}
    return found


def _referenced(one: Outcome) -> dict[str, Any]:
    return {"00081150": _value("UI", one.sop_class), "00081155": _value("UI", one.sop_uid)}


def _value(vr: str, value: object) -> dict[str, Any]:
    return {"vr": vr} if value == "" else {"vr": vr, "Value": [value]}
