"""What a hello, a last will or an unreadable frame leaves in the database. On its writer thread."""

from collections.abc import Callable
from typing import Final

from sqlalchemy import Connection, select, update

from lianzhen_hub.store import sql, tables
from lianzhen_hub.store.notices import tell
from lianzhen_protocol.hello import Hello, Known, observe
from lianzhen_protocol.identity import Epoch, NodeId
from lianzhen_protocol.lanes import Group
from lianzhen_protocol.marks import StreamMark
from lianzhen_runtime.log import Log

from .intake import Intake, StreamKey
from .vault import Vault

_NAMES: Final = 500
"""In one statement: SQLite has a limit."""

_log = Log("lianzhen.ingest")


class Register:
    """Epochs, presence and notices. Every method runs in its caller's transaction."""

    def __init__(self, vault: Vault, intake: Intake) -> None:
        self._vault = vault
        self._intake = intake

    def greet(
        self,
        db: Connection,
        node: NodeId,
        hello: Hello,
        succeeded: frozenset[bytes],
        now_ms: int,
    ) -> tuple[StreamMark, ...]:
        """Write down a hello and what is remarkable about it; the marks for its welcome."""
        epoch = Epoch(hello.epoch)
        self._note_epoch(db, node, hello, succeeded, now_ms)
        self._vault.key(db, node, epoch)  # there before the first frame, in a commit of its own
        online = {
            "node": node,
            "session_group": hello.group,
            "state": "online",
            "instance": hello.instance,
            "since_ms": now_ms,
            "software": hello.software,
        }
        sql.upsert(db, tables.presence, [online])
        self._intake.forget(node)
        names = [claim.stream for claim in hello.streams]
        marks = (self._intake.mark(db, StreamKey(node, epoch, name)) for name in names)
        return tuple(StreamMark(name, *mark) for name, mark in zip(names, marks, strict=True))

    def _note_epoch(
        self,
        db: Connection,
        node: NodeId,
        hello: Hello,
        succeeded: frozenset[bytes],
        now_ms: int,
    ) -> None:
        table = tables.epoch
        rows = db.execute(select(table.c.epoch).where(table.c.node == node)).scalars()
        known = Known(frozenset(Epoch(row) for row in rows), succeeded)
        for seen in observe(hello, known):
            _log.warning("an admin should look at this box", node=node, code=seen.code)
            tell(db, now_ms, seen.code, node, seen.detail)
        parentage = hello.parentage
        row = {
            "node": node,
            "epoch": hello.epoch,
            "parent": parentage.parent if parentage else None,
            "reason": parentage.reason if parentage else None,
            "seen_ms": now_ms,
        }
        sql.insert_new(db, table, [row])

    @staticmethod
    def offline(
        db: Connection, node: NodeId, group: Group, now_ms: int, instance: bytes | None = None
    ) -> None:
        """A session has gone: that of one program, if it was the last to say hello, or any."""
        table = tables.presence
        which = (table.c.node == node) & (table.c.session_group == group)
        if instance is not None:
            which &= table.c.instance == instance
        db.execute(update(table).where(which).values(state="offline", since_ms=now_ms))

    @staticmethod
    def nobody(db: Connection, owns: Callable[[NodeId], bool], now_ms: int) -> None:
        """The hub hears nobody yet: who was online when it last listened must say so again."""
        table = tables.presence
        online = table.c.state == "online"
        names = db.execute(select(table.c.node).where(online).distinct()).scalars()
        ours = [name for name in names if owns(NodeId(name))]
        for at in range(0, len(ours), _NAMES):
            few = online & table.c.node.in_(ours[at : at + _NAMES])
            db.execute(update(table).where(few).values(state="offline", since_ms=now_ms))

    @staticmethod
    def unreadable(db: Connection, node: NodeId, code: str, detail: str, now_ms: int) -> None:
        """A box sends what cannot be read: its software is broken, or it is not ours."""
        tell(db, now_ms, code, node, detail)
