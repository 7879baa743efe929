"""A study for teaching, without its patient: one ZIP file, made as it is sent.

Images only, by PS3.15's Basic Profile (``runtime/deidentify.py``). What may have a patient's text
in its pixels stays out unless a person has looked and says otherwise. Each export has keys of its
own, so nobody can put two of them together; it is in the audit log before its first byte.
"""

import contextlib
import io
import secrets
import zipfile
from collections.abc import AsyncIterator
from typing import Literal

import msgspec
from aiohttp import web

from lianzhen_hub.hub import Hub
from lianzhen_hub.imaging.stores import Name
from lianzhen_hub.page import HubPage
from lianzhen_protocol.accounts import Role
from lianzhen_protocol.errors import SealBroken
from lianzhen_protocol.imaging import SAFE, Instance, Study, images_of
from lianzhen_runtime.deidentify import Plan
from lianzhen_runtime.log import Log
from lianzhen_runtime.packing import MAX_BYTES
from lianzhen_runtime.preview import NoPreview, PreviewWorker
from lianzhen_runtime.web.routes import Routes, Visit

from .imaging import study_for

READERS = frozenset({Role.EXPERT, Role.ADMIN})
_MOST_DAYS = 3650
_log = Log("lianzhen.images")


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """How the export is to be."""

    dates: Literal["remove", "shift"] = "remove"
    burned_in: bool = False
    """A person has looked at all pictures and found no text of the patient in them."""


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """What an export of a study has in it."""

    study: Study
    images: list[Instance]
    """Those without a known risk."""
    risky: list[Instance]
    """Those with text in the pixels, perhaps the patient's."""
    away: int
    """Those whose originals have not come, or that are too large."""


def chosen(page: HubPage, study: Study) -> Choice:
    """The images of a study that are here, by their risk."""
    images = images_of(page, study.id)
    pictures = [one for one in images if one.rows]
    here = [one for one in pictures if one.state == SAFE and one.size <= MAX_BYTES]
    risky = [one for one in here if one.burned_in in ("yes", "maybe")]
    safe = [one for one in here if one not in risky]
    return Choice(study=study, images=safe, risky=risky, away=len(pictures) - len(here))


def routes(hub: Hub, worker: PreviewWorker) -> Routes:
    """What stands between a study and the file."""
    found = Routes()

    @found.get("/studies/{id}/teaching", roles=READERS)
    async def show(visit: Visit) -> web.StreamResponse:
        actor, key = visit.actor, visit.match("id")
        choice = await hub.transact(lambda page: chosen(page, study_for(page, actor, key)))
        return visit.page("imaging/teaching.html", choice=choice)

    @found.post("/studies/{id}/teaching", roles=READERS)
    async def export(visit: Visit) -> web.StreamResponse:
        actor, key, wanted = visit.actor, visit.match("id"), await visit.form(Wanted)

        def take(page: HubPage) -> Choice:
            choice = chosen(page, study_for(page, actor, key))
            page.audit(actor.id, "export", f"{Study.SHEET}/{choice.study.id}")
            return choice

        parts = _zipped(hub, worker, await hub.transact(take), wanted)
        answer = web.StreamResponse(
            headers={
                "Content-Type": "application/zip",
                "Content-Disposition": 'attachment; filename="teaching.zip"',
                "Cache-Control": "no-store",
            }
        )
        await answer.prepare(visit.request)
        with contextlib.suppress(ConnectionError):  # whoever hangs up has no file, and knows it
            async for part in parts:
                await answer.write(part)
            await answer.write_eof()
        return answer

    return found


async def _zipped(
    hub: Hub, worker: PreviewWorker, choice: Choice, wanted: Wanted
) -> AsyncIterator[bytes]:
    """The ZIP file, image by image."""
    plan = _plan(wanted)
    out = _Outgoing()
    made, left = 0, len(choice.risky) * (not wanted.burned_in) + choice.away
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for image in choice.images + choice.risky * wanted.burned_in:
            try:
                name = Name(image.node, image.id, "original")
                file = await worker.deidentified(await hub.objects.content(name), plan)
            except (NoPreview, FileNotFoundError, SealBroken):
                left += 1
                continue
            made += 1
            archive.writestr(f"images/{made:05d}.dcm", file)
            yield out.taken()
        archive.writestr("README.txt", _readme(wanted, made, left))
    _log.info("a study was exported for teaching", count=made)
    yield out.taken()


def _plan(wanted: Wanted) -> Plan:
    """Of one export: keys that are forgotten with it."""
    days = secrets.randbelow(_MOST_DAYS) + 1
    shift = -days if wanted.dates == "shift" else None
    return Plan(secrets.token_bytes(32), f"T-{secrets.token_hex(4).upper()}", shift)


def _readme(wanted: Wanted, made: int, left: int) -> str:
    dates = "shifted, all by the same number of days" if wanted.dates == "shift" else "removed"
    pixels = (
        "A person has looked at them and found no text of the patient."
        if wanted.burned_in
        else "Images that may have text in their pixels were left out."
    )
    return (
        "De-identified by the Basic Application Level Confidentiality Profile, DICOM PS3.15, E.\n"
        f"{made} images; {left} were left out. Reports and other objects are never in it.\n"
        f"Dates are {dates}. UIDs are replaced, consistently within this file.\n"
        f"Pixels were not changed. {pixels}\n"
        "Faces can be reconstructed from slices of a head: do not publish such series.\n"
    )


class _Outgoing(io.RawIOBase):
    """What the archive has written, to be taken away piece by piece; it cannot go back in it."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        """For zipfile."""
        return True

    def write(self, content: object) -> int:
        """For zipfile."""
        part = bytes(memoryview(content))  # type: ignore[arg-type]
        self._parts.append(part)
        return len(part)

    def taken(self) -> bytes:
        """All of it since the last time."""
        parts, self._parts = self._parts, []
        return b"".join(parts)
