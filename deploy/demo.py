"""The story so far, on real programs: a box is enrolled and 10,000 records survive three kills.

``./do demo`` tells it and leaves hub and box running to play with; ``./do demo --once`` tells it
and ends. The exit status is 0 only if every record is in the hub's database, once and in order.
"""

import argparse
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import closing

from lab import BoxProgram, HubProgram, Lab, LabError, Program, lab, wait_until

STREAM = "record.diagnostic"
ID_DIGITS = 32
SECONDS = 10


def say(text: str = "") -> None:
    """A line of the story, at once."""
    print(text, flush=True)


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
                if len(line) == ID_DIGITS + 1:
                    self.ids.append(line.strip())
        self._done = True

    def reached(self, count: int) -> bool:
        """True when so many are acknowledged; LabError if it gave up before."""
        if len(self.ids) < count and self._done:
            raise LabError(f"only {len(self.ids)} records were taken")
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
    """Step three: record, and kill each program once meanwhile; the ids in the order of the put."""
    say(f"3. {count} records are put into the box, while every program is killed once (SIGKILL).")
    victims = kills(hub, box)
    nurse = Nurse(box, count)
    nurse.start()
    for number, (what, kill) in enumerate(victims, 1):
        at = count * number // (len(victims) + 1)
        wait_until(f"{at} records acknowledged", lambda at=at: nurse.reached(at))  # type: ignore[misc]
        kill()
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
