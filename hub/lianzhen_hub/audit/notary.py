"""The head of the hub's own log is told to others: into a file beside the database, and to boxes.

Whoever may write the database may also cut the log in it; not the file, where the database is on
another machine, and not what a hundred clinics were told.
"""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from lianzhen_hub.page import HubPage
from lianzhen_protocol.audit import HUB_LOG, STREAM, AuditHead, Head
from lianzhen_runtime.files import write_durably

if TYPE_CHECKING:
    from lianzhen_hub.hub import Hub

FILE: Final = "audit-heads"
INTERVAL_S: Final = 5.0
BOXES_EVERY_S: Final = 600.0
"""Every box is told, also one that is away: more often would be a backlog for nothing."""

KEPT: Final = 1000
"""Heads in the file; the oldest go, as a later one vouches for all before it."""


class Notary:
    """``run`` it beside the hub."""

    def __init__(self, hub: "Hub", file: Path) -> None:
        self._hub = hub
        self._file = file
        self._boxes_at, self._boxes_seq = 0.0, 0

    async def run(self) -> None:
        """Tell the head whenever it has moved."""
        while True:
            await self.step()
            await asyncio.sleep(INTERVAL_S)

    async def step(self) -> AuditHead | None:
        """Tell whoever does not know it yet; what was told."""
        end, told = await self._hub.consult(
            lambda log: (log.audit_end(HUB_LOG), log.audit_told(HUB_LOG))
        )
        boxes = self._due(end.seq)
        if end.seq <= told and not boxes:
            return None
        said = AuditHead(log=HUB_LOG, seq=end.seq, hash=end.hash, told_ms=self._hub.now_ms())
        await asyncio.to_thread(add_head, self._file, said)
        await self._hub.transact(lambda page: tell(page, said, boxes))
        return said

    def _due(self, seq: int) -> frozenset[str]:
        """The boxes that are told this time: all, or none."""
        now = self._hub.clock()
        if seq <= self._boxes_seq or now - self._boxes_at < BOXES_EVERY_S:
            return frozenset()
        self._boxes_at, self._boxes_seq = now, seq
        return self._hub.fleet.active()


def tell(page: HubPage, said: AuditHead, boxes: frozenset[str]) -> None:
    """Keep the hub's head as told, and send it down."""
    page.audit_keep_head(said)
    for box in sorted(boxes):
        page.send(box, STREAM, said)


def add_head(file: Path, said: AuditHead) -> None:
    """Add a head to the file, durably; one JSON object a line."""
    lines = file.read_bytes().splitlines()[-KEPT + 1 :] if file.exists() else []
    write_durably(file, b"\n".join([*lines, msgspec.json.encode(said)]) + b"\n")


def heads_in(file: Path, log: str) -> list[Head]:
    """The heads of ``log`` in a file that this module wrote; none where there is no file."""
    if not file.exists():
        return []
    said = [msgspec.json.decode(line, type=AuditHead) for line in file.read_bytes().splitlines()]
    return [Head(each.seq, each.hash, each.told_ms) for each in said if each.log == log]
