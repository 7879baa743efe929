"""What somebody with the file and SQL can do to a log of eight rows, and what is then found."""

from typing import NamedTuple

from lianzhen_protocol.audit import Fault


class Harm(NamedTuple):
    """Statements over ``{table}`` (with ``{mine}`` choosing the log), and the finding."""

    sql: tuple[str, ...]
    fault: Fault
    seq: int


def _copy(column: str, source: int, target: int) -> str:
    found = f"SELECT {column} FROM {{table}} WHERE seq = {source} {{mine}}"
    return f"UPDATE {{table}} SET {column} = ({found}) WHERE seq = {target} {{mine}}"


ROWS = 8
HARMS = {
    "delete": Harm(("DELETE FROM {table} WHERE seq = 4 {mine}",), Fault.MISSING, 4),
    "delete-first": Harm(("DELETE FROM {table} WHERE seq = 1 {mine}",), Fault.MISSING, 1),
    "truncate": Harm(("DELETE FROM {table} WHERE seq = 8 {mine}",), Fault.TRUNCATED, 8),
    "truncate-all": Harm(("DELETE FROM {table} WHERE seq > 0 {mine}",), Fault.TRUNCATED, 1),
    "edit": Harm(
        (_copy("sealed", 2, 5),),
        Fault.CHANGED,
        5,
    ),
    "edit-hash": Harm(
        (_copy("hash", 2, 6),),
        Fault.CHANGED,
        6,
    ),
    "reorder": Harm(
        (
            "UPDATE {table} SET seq = 99 WHERE seq = 3 {mine}",
            "UPDATE {table} SET seq = 3 WHERE seq = 7 {mine}",
            "UPDATE {table} SET seq = 7 WHERE seq = 99 {mine}",
        ),
        Fault.REORDERED,
        3,
    ),
}
