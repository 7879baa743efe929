"""``audit verify``: reads the database itself, so that it also works while the hub is stopped."""

from collections.abc import Iterable
from pathlib import Path

from sqlalchemy import inspect
from sqlalchemy.exc import OperationalError

from lianzhen_hub.ingest.vault import Vault
from lianzhen_hub.settings import Settings
from lianzhen_hub.store.database import Database
from lianzhen_hub.store.sheets import HubSheets
from lianzhen_protocol.audit import HUB_LOG, Head, Verdict
from lianzhen_runtime.errors import Unavailable
from lianzhen_runtime.keys import FileKeys

from .notary import FILE, heads_in


def verify(settings: Settings, log: str | None, heads: Iterable[Head] = ()) -> list[Verdict]:
    """Every log that the hub has, or one of them. ``heads``: others of the hub's own log.

    Unavailable if there is no database or no key to open its rows with.
    """
    keys = settings.folder / "keys"
    if not keys.exists():
        raise Unavailable(f"there is no hub in {settings.folder}: name its folder with --state")
    database = Database(settings.database_url)
    try:
        return _verify(database, Vault(FileKeys(keys), database), settings.folder, log, heads)
    except OperationalError as error:
        raise Unavailable("the database does not open; is it running?") from error
    finally:
        database.engine.dispose()


def _verify(
    database: Database, vault: Vault, folder: Path, log: str | None, heads: Iterable[Head]
) -> list[Verdict]:
    with database.engine.connect().execution_options(reader=True) as connection:
        if not inspect(connection).has_table("audit_end"):
            raise Unavailable("the database is of an earlier release; start the hub once")
        sheets = HubSheets(connection, vault)
        kept = [*heads, *heads_in(folder / FILE, HUB_LOG)]
        logs = sorted({HUB_LOG, *sheets.audit_logs()}) if log is None else [log]
        return [sheets.audit_verify(each, kept if each == HUB_LOG else ()) for each in logs]
