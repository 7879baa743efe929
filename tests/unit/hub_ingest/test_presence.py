"""Who is called online: whoever said hello since the hub began to listen, and nobody else."""

import time
from pathlib import Path

from sqlalchemy import Connection, select

from lianzhen_hub.ingest.admission import Asked
from lianzhen_hub.ingest.downlink import Outbox
from lianzhen_hub.ingest.intake import Intake
from lianzhen_hub.ingest.register import Register
from lianzhen_hub.ingest.share import WHOLE, Share
from lianzhen_hub.ingest.vault import Vault
from lianzhen_hub.store import tables
from lianzhen_hub.store.database import Database
from lianzhen_protocol.hello import Presence, encode
from lianzhen_protocol.lanes import Group
from lianzhen_protocol.topics import Channel, Direction, Topic
from unit.hub_ingest.box import NODE, NOW_MS, UpStream
from unit.hub_ingest.test_lost_commit import an_ingest, hello


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

        def nobody(db: Connection, now_ms: int = NOW_MS + later) -> None:
            register.nobody(db, WHOLE.owns, now_ms)

        await database.write(nobody)
        assert await database.read(states) == [("offline", NOW_MS + 1)]
    others = [Share(shard, 2) for shard in range(2)]
    await database.write(greet)
    (other,) = (share for share in others if not share.owns(NODE))
    await database.write(lambda db: register.nobody(db, other.owns, NOW_MS + 3))
    assert await database.read(states) == [("online", NOW_MS)]  # not ours to say
    (mine,) = (share for share in others if share.owns(NODE))
    await database.write(lambda db: register.nobody(db, mine.owns, NOW_MS + 1))
    await database.write(greet)
    assert await database.read(states) == [("online", NOW_MS)]


async def test_a_last_will_that_comes_late_asks_who_is_still_there(
    database: Database, vault: Vault, outbox: Outbox, tmp_path: Path
) -> None:
    """Of a connection that the box has lost and replaced: it has nothing to say, and is there."""
    ingest, box = an_ingest(database, vault, outbox, tmp_path / "ca"), UpStream()
    for group in Group:
        await ingest._admit([Asked(NODE, hello(box, group))])
    assert ingest._calls.due(time.monotonic() + 1) == []
    will = encode(Presence(instance=bytes(16), group=Group.BULK))
    await ingest._left([(Topic(NODE, Direction.UP, Channel.PRESENCE), will)])
    assert ingest._calls.due(time.monotonic() + 1) == [NODE]
    await ingest._admit([Asked(NODE, hello(box, Group.BULK))])
    assert ingest._calls.due(time.monotonic() + 1000) == []
