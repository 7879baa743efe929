"""Records that are put while every program is killed once: none lost, none doubled, in order."""

import os
import re
import signal
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Sequence
from contextlib import closing

from lab import BoxProgram, HubProgram, LabError, Program, wait_until

STREAM = "record.diagnostic"
_ID = re.compile("[0-9a-f]{32}")
SECONDS = 10


class Nurse(threading.Thread):
    """Keeps recording, whatever is killed meanwhile: a batch that got no answer is asked again."""

    def __init__(self, box: BoxProgram, count: int) -> None:
        super().__init__(name="nurse", daemon=True)
        self._put = box.command(
            "put", "a note from the clinic", "--stream", STREAM,
            "--count", str(count), "--rate", str(count // SECONDS), "--ids", "--wait",
        )  # fmt: skip
        self._done = False
        self.ids: list[str] = []

    def run(self) -> None:
        """Put everything; ``ids`` grows as the box acknowledges."""
        with subprocess.Popen(self._put, stdout=subprocess.PIPE, text=True) as put:
            for line in put.stdout or ():
                if _ID.fullmatch(line.strip()):
                    self.ids.append(line.strip())
        self._done = True

    def reached(self, count: int) -> bool:
        """True when so many are acknowledged; LabError if it gave up before."""
        if len(self.ids) < count and self._done:
            raise LabError(f"only {len(self.ids)} records were taken")
        return len(self.ids) >= count


def kills(hub: HubProgram, box: BoxProgram) -> Sequence[tuple[str, Callable[[], None]]]:
    """What is killed, and how it comes back. The hub's death takes its broker with it."""
    broker = hub.broker_pid()

    def again(program: Program) -> Callable[[], None]:
        def kill_and_start() -> None:
            program.kill()
            program.start()

        return kill_and_start

    return (
        ("the broker", lambda: os.kill(broker, signal.SIGKILL)),
        ("the hub", again(hub)),
        ("the box", again(box)),
    )


def carry(hub: HubProgram, box: BoxProgram, count: int) -> list[str]:
    """Record, and kill each program once meanwhile; the ids in the order of the put."""
    victims = kills(hub, box)
    nurse = Nurse(box, count)
    nurse.start()
    for number, (_, kill) in enumerate(victims, 1):
        at = count * number // (len(victims) + 1)
        wait_until(f"{at} records acknowledged", lambda at=at: nurse.reached(at))  # type: ignore[misc]
        kill()
    wait_until("all records acknowledged", lambda: nurse.reached(count))
    hub.wait()
    wait_until("a drained box", lambda: box.answers() and box.drained())
    return nurse.ids


def verify(hub: HubProgram, ids: list[str]) -> str:
    """Look into the hub's database, past all of our own code. LabError for what is not right."""
    wait_until("an applied log", lambda: hub.counts(STREAM)["applied"] >= len(ids))
    with closing(sqlite3.connect(f"file:{hub.state}/hub.db?mode=ro", uri=True)) as database:
        rows = database.execute(
            "SELECT lower(hex(id)), seq FROM record WHERE stream = ? ORDER BY epoch, seq", (STREAM,)
        ).fetchall()
        (logged,) = database.execute(
            "SELECT sum(count) FROM log WHERE stream = ?", (STREAM,)
        ).fetchone()
    found = [identity for identity, _ in rows]
    lost, doubled = len(set(ids) - set(found)), logged - len(set(found))
    in_order = found == ids and [seq for _, seq in rows] == list(range(1, len(ids) + 1))
    if lost or doubled or not in_order:
        raise LabError(f"{lost} lost, {doubled} doubled, in order: {in_order}")
    return f"{len(found)} records: 0 lost, 0 doubled, in the order in which they were put"
