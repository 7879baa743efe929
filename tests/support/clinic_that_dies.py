"""A clinic's console in a program of its own: arguments a folder, a port, ``dies`` or ``lives``.

One that ``dies`` is gone (SIGKILL) between the commit of what a form asked for and its answer.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path

from aiohttp import web

from lianzhen_edge.clinic import consultations, people, vitals
from lianzhen_edge.clinic.app import HERE
from lianzhen_edge.clinic.store import ClinicStore
from lianzhen_edge.journal.journal import Journal
from lianzhen_edge.meanings import MEANINGS
from lianzhen_protocol.accounts import Role
from lianzhen_protocol.identity import NodeId
from lianzhen_runtime.keys import FileKeys
from lianzhen_runtime.web.console import Console, ConsoleSettings
from lianzhen_runtime.web.routes import Visit
from support.clinic_console import Clinic, Visitors

NOW_MS = 1_800_000_000_000


def die(*_arguments: object, **_more: object) -> web.Response:
    """In the place of the answer."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


async def main(folder: Path, port: int) -> None:
    """Serve until killed; the cookie of a doctor who is also a nurse goes to standard output."""
    keys = FileKeys(folder / "keys")
    node = NodeId("n0123456789ab")
    journal = await Journal.open(folder / "j.db", node, keys, lambda: NOW_MS, meanings=MEANINGS)
    clinic = Clinic(journal, NOW_MS)
    store = ClinicStore(clinic)  # type: ignore[arg-type]
    settings = ConsoleSettings(title="clinic.title", cookie="test", admits=lambda _: True)
    folders = [HERE / "templates"], [HERE / "text"]
    console = Console(settings, store, clinic.live, lambda: NOW_MS, *folders)
    console.add(area.routes(clinic) for area in (people, consultations, vitals))
    runner = web.AppRunner(console.application())
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    who = await Visitors(None, store, journal).sign_in("wang", Role.DOCTOR, Role.NURSE)
    print(who["Cookie"], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    if sys.argv[3] == "dies":
        Visit.see_other = die  # type: ignore[method-assign]
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
