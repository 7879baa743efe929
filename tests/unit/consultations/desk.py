"""A hub's pages on a real database and a clock of our own, without a broker."""

from collections.abc import Callable
from pathlib import Path
from typing import Self, TypeVar

from sqlalchemy import Connection

from lianzhen_hub.consultations import assignment
from lianzhen_hub.consultations.history import happen
from lianzhen_hub.consultations.meanings import MEANINGS
from lianzhen_hub.ingest.downlink import Outbox
from lianzhen_hub.ingest.vault import Vault
from lianzhen_hub.page import HubPage
from lianzhen_hub.store.database import Database, sqlite_url
from lianzhen_protocol import kinds
from lianzhen_protocol.consultation import (
    Consultation,
    ConsultationEvent,
    Event,
    Happened,
    Person,
    Submitted,
)
from lianzhen_protocol.identity import NodeId, RecordId
from lianzhen_protocol.matching import Expert, Title
from lianzhen_protocol.records import Body, decode
from lianzhen_runtime.keys import FileKeys
from support.consultations import CASE, DOCTOR, NODE, NOW, TRIAGE, consent, draft, happens

Result = TypeVar("Result")
ACCEPT_MS = 5 * 60_000


def expert(identity: str, **changes: object) -> Expert:
    """A cardiologist who takes everything."""
    found: dict[str, object] = {
        "id": identity,
        "name": f"专家{identity}",
        "title": Title.CHIEF,
        "departments": ("03.04",),
    }
    return Expert(**(found | changes))  # type: ignore[arg-type]


class Desk:
    """What a test does at the hub, each in a transaction of its own."""

    def __init__(self, folder: Path) -> None:
        self.database = Database(sqlite_url(folder / "hub.db"))
        self.vault = Vault(FileKeys(folder / "keys"), self.database)
        self.outbox = Outbox(self.vault)
        self.now_ms = NOW
        self.online: set[str] = set()

    async def __aenter__(self) -> Self:
        await self.database.__aenter__()
        await self.work(lambda page: page.keep_pseudonym_key())
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.database.__aexit__(*exception)

    async def work(self, work: Callable[[HubPage], Result], node: str = "") -> Result:
        """One transaction; ``node`` is the author of a record."""

        def inside(db: Connection) -> Result:
            return work(HubPage(db, self.vault, self.outbox, self.now_ms, node))

        return await self.database.write(inside)

    async def hears(self, event: Event, node: str = NODE) -> None:
        """A box's record is applied."""
        body = ConsultationEvent(event=event)
        record = decode(kinds.encode(body, RecordId(bytes.fromhex(event.id)), event.at_ms))
        await self.work(lambda page: MEANINGS[ConsultationEvent](page, record, body), node)

    async def happens(self, by: Person, what: Happened) -> Consultation:
        """Somebody at the hub does something with CASE."""
        return await self.work(lambda page: happen(page, CASE, by, what))

    async def experts(self, *found: Expert, online: bool = True) -> None:
        """Profiles; ``online`` puts them at a console."""
        for each in found:
            await self.work(lambda page, each=each: page.put(each))  # type: ignore[misc]
            if online:
                self.online.add(each.id)

    async def step(self) -> None:
        """What the clockwork does now, if it would do anything."""
        if await self.work(lambda page: assignment.due(page, self.online, self.now_ms)):
            await self.work(lambda page: assignment.step(page, self.online, ACCEPT_MS))
        assert not await self.work(lambda page: assignment.due(page, self.online, self.now_ms))

    async def pending(self) -> None:
        """CASE is asked for by a doctor."""
        await self.hears(happens(0, TRIAGE, draft()))
        await self.hears(happens(1, DOCTOR, Submitted(consent=consent())))

    async def case(self, identity: str = CASE) -> Consultation:
        """A consultation as the hub has it."""
        found = await self.work(lambda page: page.get(Consultation, identity))
        assert found
        return found

    async def down(self, stream: str, node: str = NODE) -> list[Body]:
        """Every record that goes down to a box."""

        def read(db: Connection) -> list[Body]:
            return [
                kinds.open_body(decode(entry))
                for head in self.outbox.heads(db, NodeId(node))
                if head.stream == stream
                for _, _, entry in self.outbox.rows(db, NodeId(node), head, 0)
            ]

        return await self.database.read(read)
