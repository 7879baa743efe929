"""Making a backup and reading it again: whole, sealed, and refused where it is worth nothing."""

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from sqlalchemy import Connection, select

from lianzhen_hub.backup import dumps, recovery
from lianzhen_hub.backup.dumps import BackupFailed, StreamAt
from lianzhen_hub.backup.keeping import raise_safe
from lianzhen_hub.backup.making import Made, Source, make
from lianzhen_hub.backup.restoring import check, choose, restore
from lianzhen_hub.store import tables
from lianzhen_hub.store.database import Database, open_engine, sqlite_url
from lianzhen_runtime.errors import SecretError, Unavailable
from lianzhen_runtime.keys import FileKeys
from support.lab_fixtures import HAS_POSTGRES

NOW_MS = 1_800_000_000_000
NODE, EPOCH = "n0123456789ab", b"e" * 16
SECRET = b"-----BEGIN PRIVATE KEY-----"


class Hub:
    """A state folder, a database, and a folder for backups."""

    def __init__(self, folder: Path, database: Database, url: str) -> None:
        self.state, self.database, self.url = folder / "state", database, url
        self.backups = folder / "backups"
        (self.state / "ca").mkdir(parents=True)
        (self.state / "ca" / "root.pem").write_bytes(SECRET)
        FileKeys(self.state / "keys")
        self.key = recovery.private_key(recovery.new_recovery_key(self.state))

    def make(self, at_ms: int = NOW_MS) -> Made:
        source = Source(
            folder=self.state,
            url=self.url,
            engine=self.database.engine,
            images=self.state / "images",
            policies=None,
            public_key=recovery.public_key(self.state),
        )
        return make(source, self.backups, at_ms)

    def image(self, key: str, content: bytes) -> None:
        path = self.state / "images" / NODE / key[:2] / f"{key}.original"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    async def write(self, committed: int, safe: int = 0) -> None:
        """A stream that is in so far."""
        row = {"node": NODE, "epoch": EPOCH, "stream": "record.diagnostic", "safe": safe}

        def work(db: Connection) -> None:
            db.execute(tables.mark.delete())
            db.execute(tables.mark.insert().values(row | {"committed": committed, "hash": b"h"}))

        await self.database.write(work)


@pytest.fixture(params=["sqlite", "postgresql"])
async def hub(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Hub]:
    url = sqlite_url(tmp_path / "hub.db")
    if request.param == "postgresql":
        if not HAS_POSTGRES:
            pytest.skip("PostgreSQL is not installed")
        postgres = request.getfixturevalue("postgres")
        postgres.empty()
        url = postgres.url
    async with Database(url) as database:
        yield Hub(tmp_path, database, url)


async def test_a_backup_holds_one_moment_and_no_secret_in_the_clear(hub: Hub) -> None:
    await hub.write(7, safe=2)
    hub.image("ab" * 16, b"sealed pixels")
    made = hub.make()
    assert made.snapshot.streams == (StreamAt(NODE, EPOCH, "record.diagnostic", 7, 2),)
    assert check(choose(hub.backups, None)) == made.manifest
    assert (made.manifest.image_files, made.manifest.image_bytes) == (1, 13)
    assert [path for path in made.path.iterdir() if SECRET in path.read_bytes()] == []
    assert {path.stat().st_mode & 0o077 for path in made.path.iterdir()} == {0}
    await hub.write(9, safe=2)
    later = hub.make(NOW_MS + 1)
    assert later.snapshot.streams[0].committed == 9
    assert choose(hub.backups, None) == later.path
    assert choose(hub.backups, made.path.name) == made.path


async def test_only_what_a_backup_holds_is_called_safe_and_no_mark_falls(hub: Hub) -> None:
    await hub.write(9, safe=3)
    for reached in (7, 5):
        held = StreamAt(NODE, EPOCH, "record.diagnostic", reached, 0)
        await hub.database.write(partial(raise_safe, streams=[held]))
        assert (
            await hub.database.read(lambda db: db.execute(select(tables.mark.c.safe)).scalar()) == 7
        )


async def test_a_restored_hub_has_it_all_back_and_calls_it_safe(hub: Hub, tmp_path: Path) -> None:
    if hub.database.backend == "postgresql":
        pytest.skip("tests/soak restores PostgreSQL")
    await hub.write(7, safe=2)
    hub.image("ab" * 16, b"sealed pixels")
    hub.make()
    to = tmp_path / "new"
    url = sqlite_url(tmp_path / "new" / "hub.db")
    restore(choose(hub.backups, None), to, url, hub.key)
    assert (to / "ca" / "root.pem").read_bytes() == SECRET
    assert (to / "images" / NODE / "ab" / f"{'ab' * 16}.original").read_bytes() == b"sealed pixels"
    assert recovery.public_key(to) == recovery.public_key(hub.state)
    engine = open_engine(url)
    with engine.connect().execution_options(reader=True) as db:
        mark = db.execute(select(tables.mark)).one()
        assert (mark.committed, mark.safe) == (7, 7)
        assert db.execute(select(tables.backup_run.c.kind)).scalar() == "restore"
    engine.dispose()
    with pytest.raises(Unavailable, match="move it away"):
        restore(choose(hub.backups, None), to, url, hub.key)


async def test_a_backup_that_is_damaged_or_of_another_key_is_refused(
    hub: Hub, tmp_path: Path
) -> None:
    await hub.write(7)
    path = hub.make().path
    url = sqlite_url(tmp_path / "new" / "hub.db")
    with pytest.raises(SecretError, match="does not open"):
        restore(path, tmp_path / "new", url, X25519PrivateKey.generate())
    content = (path / "database").read_bytes()
    (path / "database").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(Unavailable, match="damaged: database"):
        restore(path, tmp_path / "new", url, hub.key)
    (path / "database").unlink()
    with pytest.raises(Unavailable, match="cannot be read"):
        restore(path, tmp_path / "new", url, hub.key)
    with pytest.raises(Unavailable, match="no backup"):
        choose(tmp_path / "elsewhere", None)


async def test_nothing_is_called_safe_where_an_image_is_missing(hub: Hub) -> None:
    row = {"kind": "image-unsafe", "key": "cd" * 16, "owner": NODE, "state": "", "at_ms": 1}
    insert = tables.sheet.insert().values(row | {"sealed": b""})
    await hub.database.write(lambda db: db.execute(insert))
    with pytest.raises(BackupFailed, match="1 images"):
        hub.make()
    assert list(hub.backups.glob("*Z")) == []
    hub.image("cd" * 16, b"pixels")
    assert hub.make().snapshot.images == {"cd" * 16}


def test_a_recovery_key_is_typed_as_it_was_printed(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="no recovery key yet"):
        recovery.public_key(tmp_path)
    text = recovery.new_recovery_key(tmp_path)
    key = recovery.private_key(text.lower().replace("-", ""))
    assert key.public_key().public_bytes_raw() == recovery.public_key(tmp_path)
    sealed = recovery.seal(b"secret", recovery.public_key(tmp_path))
    assert recovery.unseal(sealed, key) == b"secret"
    for wrong in ("", "one", text + " more", text[:-1] + ("0" if text[-1] != "0" else "1")):
        with pytest.raises(SecretError):
            recovery.private_key(wrong)
    with pytest.raises(SecretError):
        recovery.unseal(sealed[:-1] + b"\0", key)


async def test_what_a_killed_backup_left_goes_with_the_next(hub: Hub) -> None:
    left = hub.backups / ".20270115T080000.000000Z.new"
    left.mkdir(parents=True)
    (left / "database").write_bytes(b"half")
    made = hub.make()
    assert sorted(hub.backups.iterdir()) == [made.path]


def test_a_databases_password_is_on_no_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which every user of the machine may read."""
    program = tmp_path / "15" / "bin" / "pg_dump"
    program.parent.mkdir(parents=True)
    program.write_text('#!/bin/sh\necho "$PGPASSWORD at $*" >&2\nexit 1\n')
    program.chmod(0o755)
    monkeypatch.setattr(dumps, "_PROGRAMS", tmp_path)
    url = "postgresql+psycopg://lianzhen:se%40cret@db.example:5433/hub"
    with pytest.raises(BackupFailed) as failed:
        dumps._run(url, "pg_dump")
    said = "se@cret at --dbname=postgresql://lianzhen@db.example:5433/hub"
    assert str(failed.value) == f"pg_dump: {said}"
