"""A hub with its console in this process, images that lie in it, and people who ask for them."""

import hashlib
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pydicom
from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient, TestServer

from lianzhen_hub.consoles.app import HubConsole
from lianzhen_hub.hub import Hub
from lianzhen_hub.imaging.store import Chunk
from lianzhen_hub.imaging.stores import Name
from lianzhen_hub.imaging.upload import commit
from lianzhen_hub.page import HubPage
from lianzhen_hub.settings import Settings
from lianzhen_protocol import imaging
from lianzhen_protocol.accounts import Account, Profile, Role, Secret, Stamp
from lianzhen_protocol.audit import HUB_LOG
from lianzhen_protocol.consultation import State
from lianzhen_protocol.imaging import ImageStored, Instance, Study
from lianzhen_runtime.web import sessions
from lianzhen_runtime.web.store import Pen

from .consultations import EXPERT, story

NODE = "n0123456789ab"
ADMIN, STRANGER = "ad" * 16, "5e" * 16


@dataclass
class ArchiveHub:
    """``cookies``: of the expert on the case, an admin, an expert on none."""

    hub: Hub
    client: TestClient[web.Request, web.Application]
    cookies: dict[str, str] = field(default_factory=dict)

    async def keep(self, file: bytes, patient: str = "", node: str = NODE) -> Instance:
        """An image is here, whole, as if a box had brought it."""
        body = manifest(node, file)
        await self.hub.transact(lambda page: imaging.stored(page, node, body, patient))
        name = Name(node, body.instance, "original")
        chunk = Chunk(0, file, body.sha256)
        await self.hub.objects.append(name, body.sha256, chunk, len(file))
        await self.hub.transact(lambda page: commit(page, name, len(file)))
        found = await self.hub.consult(lambda sheets: sheets.get(Instance, body.instance))
        assert found is not None
        return found

    async def case(self, *studies: str, state: State | None = None) -> None:
        """The expert is on a case to which these studies were sent."""
        consultation = msgspec.structs.replace(story(3), studies=studies)
        if state is not None:
            consultation = msgspec.structs.replace(consultation, state=state)

        def work(page: HubPage) -> None:
            page.put(consultation)
            for key in studies:
                if (study := page.get(Study, key)) is not None:
                    page.put(msgspec.structs.replace(study, patient_id=consultation.patient_id))

        await self.hub.transact(work)

    async def get(self, path: str, who: str = EXPERT.id, **headers: str) -> ClientResponse:
        """As somebody who is signed in."""
        sent = {name.replace("_", "-"): text for name, text in headers.items()}
        return await self.client.get(f"/dicomweb{path}", headers=sent | self.as_(who))

    def as_(self, who: str) -> dict[str, str]:
        """The header of a session."""
        return {"Cookie": self.cookies[who]} if who else {}

    async def audited(self) -> list[tuple[str, str, str]]:
        """Actor, action, subject of each row of the hub's log, the newest last."""
        rows = await self.hub.consult(lambda sheets: sheets.audit_trail(HUB_LOG))
        entries = [row.entry for row in rows if row.entry is not None]
        return [(entry.actor, entry.action, entry.subject) for entry in entries]


def part10(image: pydicom.Dataset) -> bytes:
    """A file of it."""
    out = io.BytesIO()
    image.save_as(out, enforce_file_format=True)
    return out.getvalue()


def manifest(node: str, file: bytes) -> ImageStored:
    """What a box says of a file."""
    image = pydicom.dcmread(io.BytesIO(file))
    sha256 = hashlib.sha256(file).hexdigest()
    study = str(image.StudyInstanceUID)
    return ImageStored(
        instance=imaging.instance_key(node, sha256),
        study=imaging.study_key(node, study),
        sha256=sha256,
        size=len(file),
        sop_class=str(image.SOPClassUID),
        sop_uid=str(image.SOPInstanceUID),
        study_uid=study,
        series_uid=str(image.SeriesInstanceUID),
        transfer_syntax=str(image.file_meta.TransferSyntaxUID),
        modality=str(image.Modality),
        series_number=int(image.get("SeriesNumber") or 1),
        instance_number=int(image.get("InstanceNumber") or 1),
        rows=int(image.get("Rows") or 0),
        columns=int(image.get("Columns") or 0),
        frames=int(image.get("NumberOfFrames") or 1),
        study_date=str(image.get("StudyDate") or ""),
        study_description=str(image.get("StudyDescription") or ""),
        sent=imaging.Sent(
            patient_id=str(image.get("PatientID") or ""), name=str(image.get("PatientName") or "")
        ),
        received_ms=1,
    )


@asynccontextmanager
async def archive_hub(folder: Path) -> AsyncIterator[ArchiveHub]:
    """One whose console listens."""
    settings = msgspec.convert({"state": str(folder), "names": ("127.0.0.1",)}, Settings)
    async with Hub(settings) as hub:
        console = HubConsole(hub)
        async with TestClient(TestServer(console.console.application())) as client:
            found = ArchiveHub(hub, client)
            for who, role in (
                (EXPERT.id, Role.EXPERT),
                (ADMIN, Role.ADMIN),
                (STRANGER, Role.EXPERT),
            ):
                found.cookies[who] = await _sits(hub, console, who, role)
            yield found
        await console.close()


async def _sits(hub: Hub, console: HubConsole, who: str, role: Role) -> str:
    stamp = Stamp(1, "0" * 32)
    account = Account(
        id=who,
        node="",
        profile=Profile(login=who[:8], name="赵", roles=(role,)),
        secret=Secret(password="x", totp="A" * 16),
        profile_stamp=stamp,
        secret_stamp=stamp,
    )

    def work(page: HubPage) -> str:
        page.put(account)
        return sessions.begin(Pen(page, lambda *_: None), account, "open")

    return f"{console.console.cookie}={await hub.transact(work)}"
