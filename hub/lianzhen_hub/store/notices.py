"""What admins are told, in the transaction of what it is about."""

from typing import Final

from sqlalchemy import Connection, select

from .tables import notice

_SAME_MS: Final = 24 * 3600 * 1000


def tell(connection: Connection, now_ms: int, code: str, node: str | None, detail: str) -> None:
    """Write a notice; the same words about the same node at most once a day."""
    same = (notice.c.code == code) & (notice.c.detail == detail) & (notice.c.node == node)
    recent = select(notice.c.id).where(same, notice.c.at_ms > now_ms - _SAME_MS).limit(1)
    if connection.execute(recent).one_or_none() is None:
        row = {"at_ms": now_ms, "node": node, "code": code, "detail": detail}
        connection.execute(notice.insert().values(row))
