"""The story of ``deploy/story.py``, told while its programs are killed at its stages.

A ``Blow`` is SIGKILL for one program at one stage: before it begins, so that it finds the program
dead, or at a moment of it that can be seen from outside. Core and hub are started again at once, as
a supervisor does; the others must come back by themselves.
"""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, Self

import psutil

import demo
import story as told
from lab import LabError, Program, lab, wait_until
from story import Story

CORE, HUB, BROKER, SCP, TRIAGE, LISTENER = "core", "hub", "broker", "scp", "triage", "listener"
DATABASE = "database"
"""The hub's PostgreSQL, where the scene has one."""
VICTIMS = (CORE, HUB, BROKER, SCP, TRIAGE, LISTENER)

STAGES: tuple[Callable[[Story], str], ...] = (
    told.power_on,
    told.hire,
    told.certify,
    told.profile,
    told.register,
    told.admit_scanner,
    lambda story: told.send_images(story, scans(story)),
    told.wear,
    told.acknowledge,
    told.triage,
    told.ask,
    told.accept,
    told.look,
    told.sign,
    told.print_opinion,
    told.complete,
    told.balance,
    told.audit,
    told.rest,
)
NAMES = tuple(stage.__name__ if stage.__name__ != "<lambda>" else "send_images" for stage in STAGES)
BY_COMMAND_LINE = frozenset({"power_on", "hire", "balance", "audit", "rest"})
"""At these a person types a command, and waits until the program can be asked."""


def scans(story: Story) -> Path:
    """Where the scanner's files are made: outside of every program's state."""
    return story.lab.folder / "scans"


class Blow(NamedTuple):
    """Who dies at which stage; ``when`` is seen from outside, or None for before the stage."""

    victim: str
    stage: str
    when: Callable[[Story], bool] | None = None


def alive(story: Story, victim: str) -> list[psutil.Process]:
    """The victim's processes that live now."""
    programs = {CORE: story.box, HUB: story.hub}
    if victim in programs:
        process = programs[victim].process
        return [psutil.Process(process.pid)] if process is not None else []
    parent, word = {
        BROKER: (story.hub, "mosquitto"),
        LISTENER: (story.box, "mosquitto"),
        SCP: (story.box, "scp"),
        TRIAGE: (story.box, "triage"),
    }[victim]
    if not parent.running():
        return []
    return [each for each in psutil.Process(parent.pid).children() if _is(each, word)]


def _is(process: psutil.Process, word: str) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return any(Path(part).name == word for part in process.cmdline())
    return False


def kill(story: Story, victim: str) -> None:
    """SIGKILL, and for core and hub their next life. A child is waited for if it is just away."""
    if victim in (CORE, HUB):
        program: Program = story.box if victim == CORE else story.hub
        program.kill()
        program.start()
        return
    if victim == DATABASE:
        (database,) = story.lab.databases
        database.kill()
        database.start()
        return
    wait_until(f"a {victim} to kill", lambda: bool(alive(story, victim)))
    for process in alive(story, victim):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
        psutil.wait_procs([process], timeout=60)


class _Reaper(threading.Thread):
    """Deals one blow at its moment; ``end`` says if there was none."""

    def __init__(self, story: Story, blow: Blow, when: Callable[[Story], bool]) -> None:
        super().__init__(daemon=True)
        self._story, self._blow, self._when = story, blow, when
        self._over = threading.Event()
        self._error: Exception | None = None
        self.dealt = False

    def run(self) -> None:
        while not self._over.is_set():
            try:
                if self._when(self._story):
                    kill(self._story, self._blow.victim)
                    self.dealt = True
                    return
            except (LabError, OSError) as error:
                self._error = error
                return
            self._over.wait(0.002)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self.join(60)
        if exception[0] is None and not self.dealt:
            raise LabError(f"{self._blow.victim} was not killed in {self._blow.stage}") from (
                self._error
            )


def tell(story: Story, blows: Iterable[Blow] = (), stages: Iterable[str] = NAMES) -> None:
    """Every stage in its order, with these blows. LabError names the stage that does not end."""
    dealt = list(blows)
    for name in stages:
        began, here = time.monotonic(), [blow for blow in dealt if blow.stage == name]
        try:
            seen = _stage(story, name, here)
        except (LabError, OSError, KeyError, TypeError, IndexError) as error:
            raise LabError(
                f"{name} with {[blow.victim for blow in here]}: {type(error).__name__}: {error}; "
                f"box: {story.box.tail(8)}; hub: {story.hub.tail(8)}"
            ) from error
        deaths = ", ".join(blow.victim for blow in here)
        print(f"{name:14} {time.monotonic() - began:5.1f} s  [{deaths}] {seen}")


def _stage(story: Story, name: str, here: list[Blow]) -> str:
    with contextlib.ExitStack() as stack:
        for blow in here:
            if blow.when is None:
                kill(story, blow.victim)
            else:
                stack.enter_context(_Reaper(story, blow, blow.when))
        if name in BY_COMMAND_LINE:
            story.hub.wait()
            if name != "power_on":
                story.box.wait()
        return STAGES[NAMES.index(name)](story)


@contextlib.contextmanager
def scene(*, postgres: bool = False) -> Iterator[Story]:
    """The demonstration's: hub, blank box, line, print server, printer."""
    with lab() as place:
        database = place.postgres().url if postgres else None
        with demo.scene(place, database) as made:
            yield made


# -- moments of a stage


def enrolled(story: Story) -> bool:
    """The box has its certificate, and has not yet a person."""
    return any((story.box.state / "identity").glob("*/identity.json"))


def images_come(story: Story) -> bool:
    """Some bytes of images are on the box's disk, and not all."""
    return any(path.stat().st_size for path in (story.box.state / "dicom").glob("*.seg"))


def printer_has_it(story: Story) -> bool:
    """The printer took the job."""
    return any((story.printer.folder / "spool").glob("**/*.pdf"))
