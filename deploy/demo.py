"""One consultation from the ultrasound to the money, on real programs, done from outside.

``./do demo`` tells it stage by stage and leaves everything running to play with; ``./do demo
--once`` tells it and ends. The exit status is 0 only if each stage was verified at its far end.
"""

import argparse
import contextlib
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import kills
import story as told
from lab import Lab, LabError, free_ports, lab
from line import Wan
from outside import PASSWORD, totp
from printers import Cups, Printer
from story import Story

RECORDS = 3_000
Stage = tuple[str, Callable[[Story], str]]


def say(text: str = "") -> None:
    """A line, at once."""
    print(text, flush=True)


def stages(scans: Path) -> list[Stage]:
    """The story in its order: what each stage is called, and what does it."""
    return [
        ("Power on, by the setup page", told.power_on),
        ("People and roles", told.hire),
        ("The expert's signing key", told.certify),
        ("The expert's profile", told.profile),
        ("A patient by the ID card", told.register),
        ("A modality is let in", told.admit_scanner),
        ("The line is cut", told.cut_line),
        ("CT, ultrasound, a series", lambda story: told.send_images(story, scans)),
        ("Vital signs and an alarm", told.wear),
        ("The alarm is acknowledged", told.acknowledge),
        ("Triage suggests, a doctor decides", told.triage),
        ("A doctor asks an expert", told.ask),
        ("The line is back", told.restore_line),
        ("The expert accepts", told.accept),
        ("The expert looks", told.look),
        ("The opinion is signed", told.sign),
        ("Printed at the clinic", told.print_opinion),
        ("Settled and paid", told.complete),
        ("The ledger", told.balance),
        ("The audit logs", told.audit),
        ("Everything is killed once", everything_killed),
        ("At rest", told.rest),
    ]


def everything_killed(story: Story) -> str:
    """Records are put while broker, hub and box are killed; counted in the hub's database."""
    return kills.verify(story.hub, kills.carry(story.hub, story.box, RECORDS))


@contextlib.contextmanager
def scene(made: Lab, database: str | None = None) -> Iterator[Story]:
    """A hub, a blank box, the line between them, a print server and a printer.

    ``database`` is a PostgreSQL's URL, or None for SQLite.
    """
    with Cups() as cups, Printer() as printer:
        cups.start()
        printer.start()
        hub = made.hub(database=database, names=[Wan.HOST, "127.0.0.1"]).start().wait()
        wan = Wan(hub.https_port, hub.mqtt_port)
        dicom, device = free_ports(2)
        box = made.box(
            "BOX-DEMO",
            dicom_port=dicom,
            device_port=device,
            triage_model=True,
            print_server=cups.url,
            print_queue=cups.add(printer),
        )
        try:
            yield Story(made, hub, box, wan, printer)
        finally:
            wan.close()


def tell(story: Story, scans: Path) -> None:
    """Every stage, a line each; LabError at the first that does not end well."""
    for number, (name, stage) in enumerate(stages(scans), 1):
        if sys.stdout.isatty():
            print(f"{number:2}  {name} …", end="\r", flush=True)
        began = time.monotonic()
        try:
            seen = stage(story)
        except (LabError, OSError, KeyError, TypeError) as error:
            say(f"{number:2}  {name:34} FAILED")
            raise LabError(f"{name}: {error}; {story.box.tail(3)} {story.hub.tail(3)}") from error
        say(f"{number:2}  {name:34} {time.monotonic() - began:5.1f} s  {seen}")


def play(story: Story) -> None:
    """Leave it all running until Ctrl-C."""
    say()
    say("It all goes on running; Ctrl-C ends it. Addresses:")
    say(f"   clinic  https://127.0.0.1:{story.box.console_port}/   "
        f"(its CA: http://127.0.0.1:{story.box.setup_port}/)")  # fmt: skip
    say(f"   hub     https://127.0.0.1:{story.hub.console_port}/")
    say(f"   DICOM   127.0.0.1:{story.box.dicom_port}, AE title LIANZHEN")
    say(f"Accounts, all with the password “{PASSWORD}”:")
    for who, person in story.people.items():
        code = f"code now {totp(person.secret)}, secret {person.secret}" if person.secret else ""
        say(f"   {who:13} {person.login:13} {person.name}  {code}")
    say("Try: sign in at the clinic as li.nurse, open the patient 赵䶮, watch vital signs, images,")
    say("opinion and bill; at the hub as wang.expert open the case; as gao.admin the ledger.")
    for command in (story.box.command("status"), story.hub.command("audit", "verify")):
        say("   " + " ".join(command))
    with contextlib.suppress(KeyboardInterrupt):
        signal.pause()


def main() -> int:
    """Tell the story; 0 if it ends well."""
    parser = argparse.ArgumentParser(prog="./do demo", description=__doc__)
    parser.add_argument("--once", action="store_true", help="end after the story")
    options = parser.parse_args()
    try:
        with lab() as made, scene(made) as story:
            tell(story, made.folder / "scans")
            say("Nothing lost, nothing doubled, every stage seen at its far end.")
            if not options.once:
                play(story)
    except LabError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
