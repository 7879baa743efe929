"""A commit whose answer was lost: it happened, the hub was told otherwise, and nothing doubles."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
from sqlalchemy import Connection, func, select
from sqlalchemy.exc import OperationalError

from lianzhen_hub.fleet.authority import Authority
from lianzhen_hub.ingest.admission import Asked
from lianzhen_hub.ingest.downlink import Outbox
from lianzhen_hub.ingest.service import Ingest
from lianzhen_hub.ingest.vault import Vault
from lianzhen_hub.store import tables
from lianzhen_hub.store.database import Database
from lianzhen_protocol.hello import Hello
from lianzhen_protocol.lanes import Group, lane_of
from unit.hub_ingest.box import NODE, NOW_MS, UpStream

Result = TypeVar("Result")


class Everybody:
    """A fleet of one box that may do anything."""

    def is_active(self, name: str) -> bool:
        return name == NODE

    def active(self) -> frozenset[str]:
        return frozenset({NODE})

    def use(self, _connection: Connection, name: str, serial: str) -> bool:
        return name == NODE and bool(serial)

    def was_used(self, name: str, serial: str, found: object) -> None:
        assert (name, serial, found) == (NODE, "ab", True)


def hello(stream: UpStream, group: Group | None = None) -> Hello:
    """The hello of the box that writes ``stream``."""
    return Hello(
        session=bytes(16),
        group=group or lane_of(stream.key.stream).group,
        protocols=(1,),
        epoch=stream.key.epoch,
        parentage=None,
        instance=bytes(16),
        serial="ab",
        software="test",
        now_ms=NOW_MS,
        streams=(),
        down=(),
    )


def losing_its_answer(work: Callable[[Connection], Result]) -> Callable[[Connection], Result]:
    """``work``, committed, and then the line to the server breaks."""

    def done(connection: Connection) -> Result:
        work(connection)
        connection.commit()
        raise OperationalError("COMMIT", None, ConnectionError("the server is gone"))

    return done


def an_ingest(database: Database, vault: Vault, outbox: Outbox, folder: Path) -> Ingest:
    """One that no broker talks to."""
    signer = Authority(folder).signer()
    return Ingest(database, vault, outbox, Everybody(), signer, time.time, lambda: None)


async def test_what_was_committed_unheard_is_not_committed_again(
    database: Database,
    vault: Vault,
    outbox: Outbox,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The box repeats it, cut anew; the hub must look where it stands before it says anything."""
    ingest = an_ingest(database, vault, outbox, tmp_path / "ca")
    stream = UpStream()
    stream.write(30)
    await ingest._admit([Asked(NODE, hello(stream))])
    await ingest._frames([stream.frame(1, 10)])

    write = database.write
    with monkeypatch.context() as broken:
        broken.setattr(database, "write", lambda work: write(losing_its_answer(work)))
        with pytest.raises(OperationalError):
            await ingest._frames([stream.frame(11, 20)])

    await ingest._frames([stream.frame(11, 25)])
    await ingest._frames([stream.frame(26, 30)])

    def counted(db: Connection) -> tuple[int, int]:
        logged = db.execute(select(func.sum(tables.log.c.count))).scalar_one()
        return int(logged), db.execute(select(tables.mark.c.committed)).scalar_one()

    assert await database.read(counted) == (30, 30)
