"""Group commit: one thread writes, and every caller waits for the sync that covers its work.

While a sync runs, work queues up; the next transaction takes all of it. So a lone record is
durable after one sync, and a thousand at a time cost hardly more than one.
"""

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from .errors import JournalError, JournalFull

GROUP_JOBS = 256
"""Most jobs in one transaction: bounds how long the first of them waits."""

Result = TypeVar("Result")
Work = Callable[[], Result]


class _Job(Generic[Result]):
    def __init__(self, work: Work[Result], future: "asyncio.Future[Result]") -> None:
        self.work = work
        self.future = future
        self.result: Result

    def answer(self, error: Exception | None) -> None:
        if self.future.cancelled():
            return
        if error is not None:
            self.future.set_exception(error)
        else:
            self.future.set_result(self.result)


class GroupWriter:
    """The only writer of a SQLite file.

    ``settled`` is called in the writer's thread after each group: True for committed, False for
    rolled back, so that what its owner keeps in memory can follow.
    """

    def __init__(self, connection: sqlite3.Connection, settled: Callable[[bool], None]) -> None:
        self._connection = connection
        self._settled = settled
        self._jobs: queue.SimpleQueue[_Job[Any] | None] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="journal-writer", daemon=True)
        self._thread.start()

    async def do(self, work: Work[Result]) -> Result:
        """Run ``work`` inside the next transaction; it is synced to disk when this returns.

        JournalFull or JournalError when the disk refuses: then none of the group happened. A
        caller that is cancelled does not take back what it asked for.
        """
        job: _Job[Result] = _Job(work, self._loop.create_future())
        self._jobs.put(job)
        return await job.future

    async def close(self) -> None:
        """Commit what is queued, and stop."""
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            group = [job]
            while len(group) < GROUP_JOBS and not self._jobs.empty():
                if (more := self._jobs.get()) is None:
                    self._jobs.put(None)  # the end comes after this group
                    break
                group.append(more)
            error = self._commit(group)
            self._settled(error is None)
            self._loop.call_soon_threadsafe(self._answer, group, error)

    def _commit(self, group: list[_Job[Any]]) -> Exception | None:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            for job in group:
                job.result = job.work()
            self._connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - handed to every caller of the group
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            return _refusal(error)
        return None

    @staticmethod
    def _answer(group: list[_Job[Any]], error: Exception | None) -> None:
        for job in group:
            job.answer(error)


def _refusal(error: Exception) -> Exception:
    match error:
        case sqlite3.Error(sqlite_errorcode=sqlite3.SQLITE_FULL):
            return JournalFull("the disk is full: nothing was stored; make space and try again")
        case sqlite3.OperationalError():
            return JournalError(f"the journal cannot be written: {error}")
        case _:
            return error
