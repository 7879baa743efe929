"""What an enrolled box runs beside journal and uplink: one line a service.

Each service restarts on the faults that it declares; anything else ends the box, and its
supervisor starts it again.
"""

from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

from . import auditing, reporting
from .journal.errors import JournalError
from .settlement import rules
from .triage import wiring as triage

if TYPE_CHECKING:
    from .box import Box


class Service(NamedTuple):
    """A coroutine that runs for as long as the box does."""

    name: str
    run: Callable[[], Awaitable[None]]
    faults: tuple[type[Exception], ...] = (OSError, TimeoutError)


def services(box: "Box") -> Iterable[Service]:
    """All of them, for a box whose journal is open."""
    for name, run in box.imaging.services():
        yield Service(name, run, (OSError, TimeoutError, JournalError))
    yield Service("audit", lambda: auditing.run(box.journal), (OSError, JournalError))
    yield Service("rules", lambda: rules.keep(box.journal, box.settings), (OSError, JournalError))
    yield Service("storage", box.storage.watch, (OSError, JournalError))
    yield from box.devices.services()
    for name, run in triage.services(box):
        yield Service(name, run)
    yield Service("report", lambda: reporting.run(box.journal, box.status), (OSError, JournalError))
    yield Service("opinions", box.opinions.run, (OSError, JournalError))
    yield Service("printing", box.printing.run, (OSError, JournalError))
