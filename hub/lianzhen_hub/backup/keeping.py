"""The mark that follows the last verified backup: only what that holds is called safe."""

import asyncio
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
from sqlalchemy import Connection, bindparam, select, update

from lianzhen_hub.imaging.meanings import receipt
from lianzhen_hub.imaging.unsafe import ImageUnsafe
from lianzhen_hub.page import HubPage
from lianzhen_hub.store import tables
from lianzhen_protocol.imaging import SAFE, Instance
from lianzhen_runtime.errors import ConfigError, Unavailable
from lianzhen_runtime.log import Log

from .dumps import StreamAt
from .making import Made, Source, make
from .recovery import new_recovery_key, public_key

if TYPE_CHECKING:
    from lianzhen_hub.hub import Hub

BACKUP, RESTORE = "backup", "restore"
_CHUNK: Final = 1000
_log = Log("lianzhen.backup")


class BackupReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a backup came to."""

    path: str
    records: int
    image_files: int
    streams_moved: int
    receipts: int


class Backups:
    """One at a time."""

    def __init__(self, hub: "Hub") -> None:
        self._hub = hub
        self._alone = asyncio.Lock()
        self.last_ms = 0
        """When the last one was verified; 0: never."""

    async def begin(self) -> None:
        """Look when the last one was."""
        self.last_ms = await self._hub.database.read(last_backup)

    @property
    def busy(self) -> bool:
        """One is being made."""
        return self._alone.locked()

    def recovery_key(self) -> str:
        """A new recovery key, as it goes onto paper."""
        return new_recovery_key(self._hub.settings.folder)

    async def make(self, folder: str) -> BackupReport:
        """Make and verify a backup, and let the safe marks follow. BackupFailed, Unavailable."""
        target = Path(folder)
        if not target.is_absolute():
            raise ConfigError("the folder of backups is an absolute path")
        if self.busy:
            raise Unavailable("a backup is being made already")
        async with self._alone:
            hub, now_ms = self._hub, self._hub.now_ms()
            settings = hub.settings
            source = Source(
                folder=settings.folder,
                url=settings.database_url,
                engine=hub.database.engine,
                images=hub.images_folder,
                policies=Path(settings.policies) if settings.policies else None,
                public_key=public_key(settings.folder),
            )
            made = await asyncio.to_thread(make, source, target, now_ms)
            report = await self._call_safe(made, now_ms)
            self.last_ms = now_ms
        _log.info("backup verified", records=report.records, count=report.streams_moved)
        return report

    async def _call_safe(self, made: Made, now_ms: int) -> BackupReport:
        hub, held = self._hub, made.snapshot
        behind = [stream for stream in held.streams if stream.safe < stream.committed]
        for at in range(0, len(behind), _CHUNK):
            few = behind[at : at + _CHUNK]
            await hub.database.write(partial(raise_safe, streams=few))
        images = sorted(held.images)
        receipts = 0
        for at in range(0, len(images), _CHUNK):
            some = images[at : at + _CHUNK]
            receipts += await hub.transact(partial(_receipts, images=some))
        await hub.database.write(
            lambda db: note_run(db, BACKUP, now_ms, made.path.name, held.records, held.applied)
        )
        hub.ingest.made_safe()
        return BackupReport(
            path=str(made.path),
            records=held.records,
            image_files=made.manifest.image_files,
            streams_moved=len(behind),
            receipts=receipts,
        )


def raise_safe(db: Connection, streams: Iterable[StreamAt]) -> None:
    """Call safe what a backup holds; a mark never falls."""
    mark = tables.mark
    change = (
        update(mark)
        .where(mark.c.node == bindparam("of_node"), mark.c.epoch == bindparam("of_epoch"))
        .where(mark.c.stream == bindparam("of_stream"), mark.c.safe < bindparam("reached"))
        .values(safe=bindparam("reached"))
    )
    rows = [
        {"of_node": at.node, "of_epoch": at.epoch, "of_stream": at.stream, "reached": at.committed}
        for at in sorted(streams, key=lambda at: (at.node, at.epoch, at.stream))  # as the intake
    ]
    if rows:
        db.execute(change, rows)


def note_run(
    db: Connection, kind: str, at_ms: int, name: str, records: int, applied: int | None = None
) -> None:
    """Remember that a backup was made, or restored."""
    row = {"at_ms": at_ms, "kind": kind, "name": name, "records": records, "applied": applied}
    db.execute(tables.backup_run.insert().values(row))


def applied_in_backup(db: Connection) -> int:
    """Every row of the log up to this one was applied before the last verified backup was made,
    and is in it; 0: there is none.
    """
    table = tables.backup_run.c
    query = select(table.applied).where(table.kind == BACKUP).order_by(table.id.desc()).limit(1)
    return db.execute(query).scalar() or 0


def last_backup(db: Connection) -> int:
    """When the last verified backup was made; 0: never."""
    table = tables.backup_run.c
    query = select(table.at_ms).where(table.kind == BACKUP).order_by(table.id.desc()).limit(1)
    return db.execute(query).scalar() or 0


def _receipts(page: HubPage, images: Sequence[str]) -> int:
    """Give the receipts that waited for this backup."""
    given = 0
    for key in images:
        known = page.get(Instance, key)
        page.delete(ImageUnsafe, key)
        if known is not None and known.state == SAFE:
            receipt(page, known)
            given += 1
    return given
