"""What a piece of work at the hub writes on: sheets, what goes down, and who did it, in one commit.

A box's record is applied on one (``node`` is its author), and so is what a person at the hub
does (``node`` is empty).
"""

from collections.abc import Callable, Mapping

from sqlalchemy import Connection

from lianzhen_protocol.audit import HUB_LOG, Action
from lianzhen_protocol.errors import RecordError
from lianzhen_protocol.identity import NodeId
from lianzhen_protocol.records import Body, Record
from lianzhen_runtime.ids import new_id

from .ingest.downlink import Outbox
from .ingest.vault import Vault
from .store.notices import tell
from .store.sheets import HubSheets


class HubPage(HubSheets):
    """Sheets and all else that one transaction may do."""

    def __init__(
        self, connection: Connection, vault: Vault, outbox: Outbox, now_ms: int, node: str = ""
    ) -> None:
        super().__init__(connection, vault)
        self._outbox = outbox
        self.now_ms = now_ms
        self.node = node
        self.told: set[NodeId] = set()
        """Boxes for which something lies in the outbox now."""

    def new_id(self) -> str:
        """A fresh UUIDv7, 32 hexadecimal digits."""
        return new_id(self.now_ms).hex()

    def send(self, node: str, stream: str, body: Body) -> None:
        """Add a record to a down stream of a box."""
        self._outbox.append(self.connection, NodeId(node), stream, body, self.now_ms)
        self.told.add(NodeId(node))

    def notice(self, code: str, detail: str, node: str | None = None) -> None:
        """Tell the admins; ``detail`` says nothing about a person."""
        tell(self.connection, self.now_ms, code, node, detail)

    def audit(self, actor: str, action: Action, subject: str) -> None:
        """Note who did what to whose data; ``subject`` is a sheet as ``kind/key``, or a patient."""
        self.audit_row(HUB_LOG, self.now_ms, actor, action, subject)


Meaning = Callable[[HubPage, Record, Body], None]
"""What a box's record does. RecordError, with its code, for what cannot be applied."""

Meanings = Mapping[type[Body], Meaning]


def misplaced(_page: HubPage, record: Record, _body: Body) -> None:
    """The meaning of what only the hub may say: RecordError."""
    raise RecordError(f"{record.kind} goes down, never up", code="record-misplaced")


Pages = Callable[[Connection, int, str], HubPage]
"""Makes the page of a transaction: connection, now in ms, author."""
