"""Who is called online: whoever said hello since the hub began to listen, and nobody else."""

from sqlalchemy import Connection, select

from lianzhen_hub.ingest.intake import Intake
from lianzhen_hub.ingest.register import Register
from lianzhen_hub.ingest.vault import Vault
from lianzhen_hub.store import tables
from lianzhen_hub.store.database import Database
from unit.hub_ingest.box import NODE, NOW_MS, UpStream
from unit.hub_ingest.test_lost_commit import hello


async def test_a_hub_that_listens_anew_calls_nobody_online(
    database: Database, vault: Vault
) -> None:
    register = Register(vault, Intake(vault, lambda *_: True, safe_on_commit=True))
    box = UpStream()

    def states(db: Connection) -> list[tuple[str, int]]:
        query = select(tables.presence.c.state, tables.presence.c.since_ms)
        return [tuple(row) for row in db.execute(query)]

    def greet(db: Connection) -> None:
        register.greet(db, NODE, hello(box), frozenset(), NOW_MS)

    await database.write(greet)
    assert await database.read(states) == [("online", NOW_MS)]
    for later in (1, 2):  # it has been gone since the first
        await database.write(lambda db, later=later: register.nobody(db, NOW_MS + later))  # type: ignore[misc]
        assert await database.read(states) == [("offline", NOW_MS + 1)]
    await database.write(greet)
    assert await database.read(states) == [("online", NOW_MS)]
