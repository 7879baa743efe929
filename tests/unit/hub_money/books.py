"""A hub's settlement on a database: what a box says, and what the hub makes of it."""

import secrets
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection

from lianzhen_hub.ingest.downlink import Outbox
from lianzhen_hub.ingest.intake import Intake
from lianzhen_hub.ingest.projector import Projector, Step
from lianzhen_hub.ingest.vault import Vault
from lianzhen_hub.meanings import MEANINGS
from lianzhen_hub.page import HubPage
from lianzhen_hub.settlement import ledger
from lianzhen_hub.store.database import Database
from lianzhen_protocol import kinds, records
from lianzhen_protocol.fees import Rules
from lianzhen_protocol.identity import NodeId, uuid7
from lianzhen_protocol.records import Body
from lianzhen_protocol.settling import RuleBook
from support.money import REGION, RULES
from unit.hub_ingest.box import NODE, NOW_MS, UpStream

T = TypeVar("T")


class Books:
    """Intake, projector with every meaning of this release, and the ledger."""

    def __init__(self, database: Database, vault: Vault, outbox: Outbox) -> None:
        self.database, self.vault, self.outbox = database, vault, outbox
        self.intake = Intake(vault, lambda *_: True, safe_on_commit=True)
        self.projector = Projector(vault, outbox, self.page, MEANINGS)

    async def open(self, rules: Rules = RULES) -> None:
        await self.database.write(lambda db: self.page(db, NOW_MS).keep_pseudonym_key())
        await self.do(lambda page: page.put(RuleBook(rules=rules, region=REGION)))

    def page(self, db: Connection, now_ms: int, node: str = "") -> HubPage:
        return HubPage(db, self.vault, self.outbox, now_ms, node)

    async def do(self, work: Callable[[HubPage], T], node: str = "") -> T:
        return await self.database.write(lambda db: work(self.page(db, NOW_MS, node)))

    async def say(self, *bodies: Body, node: NodeId = NODE) -> Step:
        """A box says these, each in a record of its own, in a stream of its own."""
        entries = [
            kinds.encode(body, uuid7(NOW_MS, secrets.token_bytes(10)), NOW_MS) for body in bodies
        ]
        return await self.carry(entries, node)

    async def carry(self, entries: list[bytes], node: NodeId = NODE) -> Step:
        stream = UpStream(entries, node=node, name="record.settlement")
        batch = [stream.frame(1, len(entries))]
        outcome = await self.database.write(lambda db: self.intake.commit(db, batch, NOW_MS))
        self.intake.settle(outcome)
        return await self.database.write(lambda db: self.projector.step(db, NOW_MS))

    async def told(self, node: NodeId = NODE, stream: str = "record.settlement") -> list[Body]:
        """What lies in the outbox for a box."""

        def opened(db: Connection) -> list[Body]:
            return [
                kinds.open_body(records.decode(entry))
                for head in self.outbox.heads(db, node)
                for _, _, entry in self.outbox.rows(db, node, head, 0)
                if head.stream == stream
            ]

        return await self.database.read(opened)

    async def fen(self) -> dict[str, int]:
        """What stands in the accounts, those that are not zero."""
        found = await self.database.read(ledger.balances)
        return {each.id: each.fen for each in found if each.fen}

    async def sound(self) -> ledger.Check:
        found = await self.database.read(ledger.check)
        assert found.sound
        return found
