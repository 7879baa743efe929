"""kill -9, by a schedule that a seed decides, while a box is written to all the time."""

import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from typing import Self

from lab import BoxProgram, LabError, Postgres, Program, wait_until
from support.lab_fixtures import STREAM, Pair, Writer, rows


class SteadyWriter:
    """``put --wait``, again and again, until told to stop; what it was promised, in order."""

    def __init__(self, box: BoxProgram, batch: int = 400, stream: str = STREAM) -> None:
        self._box, self._batch, self._stream = box, batch, stream
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._error: LabError | None = None
        self.promised: list[bytes] = []

    def _run(self) -> None:
        try:
            while not self._enough.is_set():
                self.promised += Writer(self._box, self._batch, self._stream).ids(60)
        except LabError as error:
            self._error = error

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._enough.set()
        self._thread.join(90)
        if self._error is not None:
            raise self._error


def broker_pid(pair: Pair) -> int | None:
    """Of the broker that runs just now, if one does."""
    found = rows(pair.hub, "status")
    pid = found["broker_pid"] if isinstance(found, dict) else None
    return int(pid) if pid is not None else None


def kill_broker(pair: Pair) -> None:
    """The hub starts another one."""

    def there_is_one() -> bool:
        return broker_pid(pair) is not None

    wait_until("a broker", there_is_one)
    if (pid := broker_pid(pair)) is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def restart(program: Program) -> None:
    """kill -9, and at once the next one."""
    program.kill()
    program.start()


def schedule(
    pair: Pair,
    seed: int,
    extra: dict[str, Callable[[], None]] | None = None,
    rounds: int = 3,
) -> None:
    """In each of ``rounds``, kill everything in a random order at random moments.

    The box comes last: its next life does not wait out the pauses that the faults earned it.
    """
    chance = random.Random(seed)
    deeds: dict[str, Callable[[], None]] = {
        "box": lambda: restart(pair.box),
        "hub": lambda: restart(pair.hub),
        "broker": lambda: kill_broker(pair),
        **(extra or {}),
    }
    order = [victim for _ in range(rounds) for victim in chance.sample(list(deeds), len(deeds))]
    began = time.monotonic()
    for number, victim in enumerate([*order, "box"]):
        if chance.random() < 0.6:
            more = max(0, pair.ledger.count()) + chance.randrange(1, 300)
            progress(pair, more)
        else:
            time.sleep(chance.uniform(0, 0.5))  # the schedule itself: also kill what only begins
        print(f"seed {seed}: {time.monotonic() - began:.2f} s, kill {number}: {victim}")
        deeds[victim]()


def progress(pair: Pair, count: int) -> None:
    """Wait until the hub has applied ``count`` records; say how things stand if it does not."""

    def come_so_far() -> bool:
        return pair.ledger.count() >= count

    try:
        wait_until("progress", come_so_far)
    except LabError as error:
        raise LabError(
            f"{error}: {pair.ledger.count()} of {count}; the box says {pair.box.status()}, "
            f"its log {pair.box.tail()}; the hub's log {pair.hub.tail(20)}"
        ) from error


def kill_postgres(postgres: Postgres) -> None:
    """The whole server as a power cut ends it: and started again."""
    postgres.kill()
    postgres.start()
