"""The story so far, on real programs: a box is enrolled and 10,000 records survive three kills.

``./do demo`` tells it and leaves hub and box running to play with; ``./do demo --once`` tells it
and ends. The exit status is 0 only if every record is in the hub's database, once and in order.
"""

import argparse
import os
import signal
import sqlite3
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import closing

from lab import BoxProgram, HubProgram, Lab, LabError, lab, wait_until

STREAM = "record.diagnostic"
CHUNK = 250


def say(text: str = "") -> None:
    """A line of the story, at once."""
    print(text, flush=True)


class Nurse(threading.Thread):
    """Keeps recording, whatever is killed meanwhile: a chunk that got no answer is asked again."""

    def __init__(self, box: BoxProgram, count: int) -> None:
        super().__init__(name="nurse", daemon=True)
        self._box = box
        self._count = count
        self.ids: list[str] = []
        self.failure: Exception | None = None

    def run(self) -> None:
        """Put everything; ``ids`` grows as the box acknowledges."""
        try:
            while len(self.ids) < self._count:
                size = min(CHUNK, self._count - len(self.ids))
                answer = self._box.ask(
                    "put", f"note {len(self.ids)}", "--stream", STREAM,
                    "--count", str(size), "--ids", "--wait",
                )  # fmt: skip
                self.ids += answer.splitlines()[:size]
        except LabError as error:
            self.failure = error

    def reached(self, count: int) -> bool:
        """True when so many are acknowledged; LabError if it had to give up."""
        if self.failure is not None:
            raise self.failure
        return len(self.ids) >= count


def enrol(made: Lab) -> tuple[HubProgram, BoxProgram]:
    """Steps one and two: an empty folder each, and a claim between them."""
    say("1. A hub starts on an empty folder: it makes its CA, its database and its own broker.")
    hub = made.hub().start().wait()
    status = hub.json("status")
    say(f"   hub {status['url']}, broker pid {status['broker_pid']}, {status['backend']}")
    say("2. A blank box is powered on, and given the claim that the hub prints as a QR code.")
    box = made.box("BOX-DEMO").start()
    node = box.enrol(hub)
    say(f"   enrolled as {node}; its key never left it; both sessions are online over TLS 1.3")
    return hub, box


def kill_broker(hub: HubProgram, _box: BoxProgram) -> None:
    """The broker holds what is in flight, and nothing that matters."""
    os.kill(hub.broker_pid(), signal.SIGKILL)


def kill_hub(hub: HubProgram, _box: BoxProgram) -> None:
    """With it goes its broker."""
    hub.kill()
    hub.start()


def kill_box(_hub: HubProgram, box: BoxProgram) -> None:
    """In the middle of its commits."""
    box.kill()
    box.start()


KILLS: Sequence[tuple[str, Callable[[HubProgram, BoxProgram], None]]] = (
    ("the broker", kill_broker),
    ("the hub", kill_hub),
    ("the box", kill_box),
)


def carry(hub: HubProgram, box: BoxProgram, count: int) -> list[str]:
    """Step three: record, and kill each program once meanwhile; the ids in the order of the put."""
    say(f"3. {count} records are put into the box, while every program is killed once (SIGKILL).")
    nurse = Nurse(box, count)
    nurse.start()
    for number, (what, kill) in enumerate(KILLS, 1):
        at = count * number // (len(KILLS) + 1)
        wait_until(f"{at} records acknowledged", lambda at=at: nurse.reached(at))  # type: ignore[misc]
        kill(hub, box)
        say(f"   {len(nurse.ids)} acknowledged: {what} is killed")
    wait_until("all records acknowledged", lambda: nurse.reached(count))
    say(f"   {count} acknowledged by the box")
    hub.wait()
    seconds = wait_until("a drained box", lambda: box.answers() and box.drained())
    say(f"   all safe at the hub {seconds:.1f} s later; the box holds nothing any more")
    return nurse.ids


def verify(hub: HubProgram, ids: list[str]) -> bool:
    """Step four: look into the hub's database, past all of our own code."""
    say("4. The hub's database is opened and counted.")
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
    say(f"   {len(found)} records: {lost} lost, {doubled} doubled, "
        f"{'in' if in_order else 'NOT in'} the order in which they were put")  # fmt: skip
    return lost == 0 and doubled == 0 and in_order


def play(hub: HubProgram, box: BoxProgram) -> None:
    """Leave it all running until Ctrl-C."""
    say()
    say("Hub and box go on running; Ctrl-C ends them. In another terminal, try:")
    for command in (
        box.command("status"),
        box.command("put", "hello from the clinic", "--ids"),
        hub.command("log", "--limit", "5"),
        hub.command("open", "ID", "--by", "Dr Wang"),
        box.command("item", "ID"),
        hub.command("claim", "BOX-2", "--clinic", "Another one"),
    ):
        say("   " + " ".join(command))
    try:
        signal.pause()
    except KeyboardInterrupt:
        say()


def main() -> int:
    """Tell the story; 0 if it ends well."""
    parser = argparse.ArgumentParser(prog="./do demo", description=__doc__)
    parser.add_argument("--once", action="store_true", help="end after the story")
    parser.add_argument("--count", type=int, default=10_000, help="records to carry")
    options = parser.parse_args()
    try:
        with lab() as made:
            hub, box = enrol(made)
            good = verify(hub, carry(hub, box, options.count))
            say("Nothing lost, nothing doubled." if good else "This is not what we promise.")
            if not options.once:
                play(hub, box)
    except LabError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
