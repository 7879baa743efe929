"""Writing many rows at once, the same for SQLite and PostgreSQL.

Statements are made once and rows go to the driver as they are: through SQLAlchemy's own
parameter processing a row costs twice as much, and these are the hub's busiest lines.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Table

Row = Mapping[str, Any]


def upsert(
    connection: Connection,
    table: Table,
    rows: Sequence[Row],
    *,
    rising: str | None = None,
    unmoved: tuple[str, str] | None = None,
) -> int:
    """Insert ``rows``, all with the same columns; where the key exists, take the new values.

    Of the column ``rising`` the greater one: somebody else may have raised it meanwhile.
    ``unmoved``: a column, and that of ``rows`` which says what it must still be; a row that was
    moved is left as it is. How many rows were written.
    """
    if rows:
        keys = {column.name for column in table.primary_key}
        new = {name: f'excluded."{name}"' for name in rows[0] if name not in keys}
        if rising is not None:
            old, fresh = f'"{table.name}"."{rising}"', new[rising]
            new[rising] = f"CASE WHEN {fresh} > {old} THEN {fresh} ELSE {old} END"
        changed = ", ".join(f'"{name}" = {value}' for name, value in new.items())
        listed = ", ".join(f'"{name}"' for name in keys)
        action = f"ON CONFLICT ({listed}) DO UPDATE SET {changed}"
        if unmoved is not None:
            action += f' WHERE "{table.name}"."{unmoved[0]}" = excluded."{unmoved[1]}"'
        return _execute(connection, table, tuple(rows[0]), action, rows)
    return 0


def insert(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    """Insert ``rows``, all with the same columns and new keys."""
    if rows:
        _execute(connection, table, tuple(rows[0]), "", rows)


def insert_new(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    """Insert ``rows``, all with the same columns; leave those whose key exists as they are."""
    if rows:
        _execute(connection, table, tuple(rows[0]), "ON CONFLICT DO NOTHING", rows)


def _execute(
    connection: Connection,
    table: Table,
    names: tuple[str, ...],
    action: str,
    rows: Sequence[Row],
) -> int:
    if connection.dialect.name == "postgresql":
        # One array a column: psycopg sends many rows one by one, at three times the cost. Binary
        # ones (%b): otherwise bytes in them go out as hexadecimal text, at eight times the cost.
        arrays = tuple([row[name] for row in rows] for name in names)
        statement = _insert(table, names, _unnested(connection, table, names), action)
        return connection.exec_driver_sql(statement, arrays).rowcount
    marks = f"VALUES ({', '.join('?' * len(names))})"
    values = [tuple(row.values()) for row in rows]
    return connection.exec_driver_sql(_insert(table, names, marks, action), values).rowcount


def _unnested(connection: Connection, table: Table, names: Iterable[str]) -> str:
    kinds = (table.c[name].type.compile(connection.dialect) for name in names)
    return f"SELECT * FROM unnest({', '.join(f'%b::{kind}[]' for kind in kinds)})"  # noqa: S608 - our own names


@lru_cache
def _insert(table: Table, names: tuple[str, ...], source: str, action: str) -> str:
    columns = ", ".join(f'"{name}"' for name in names)
    return f'INSERT INTO "{table.name}" ({columns}) {source} {action}'
