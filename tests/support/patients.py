"""A patient on a box, for tests whose matter is another."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from lab import BoxProgram
from lianzhen_edge.box import BUILT_MS
from lianzhen_edge.journal.journal import Journal
from lianzhen_edge.meanings import MEANINGS
from lianzhen_edge.patients import desk
from lianzhen_protocol.identity import NodeId
from lianzhen_protocol.people import By
from lianzhen_runtime.keys import FileKeys


def registered(box: BoxProgram, node: str) -> str:
    """Zhang San, registered at the desk of a box that does not run; the patient's id."""

    async def work() -> str:
        state = box.state
        journal = await Journal.open(
            state / "journal.db",
            NodeId(node),
            FileKeys(state / "keys"),
            lambda: BUILT_MS,
            meanings=MEANINGS,
        )
        try:
            details = desk.Details(name="张三", id_number="11010519491231002X")
            by = By(account="nurse", name="李护士")
            return (
                await journal.transact(lambda book: desk.register(book, by, details))
            ).patient.id
        finally:
            await journal.close()

    with ThreadPoolExecutor(1) as other:  # Playwright has a loop in this one
        return other.submit(lambda: asyncio.run(work())).result()
