"""Runs a box: its doors first, so that it can be asked while it is still blank."""

from collections.abc import Sequence

from lianzhen_runtime import log
from lianzhen_runtime.files import private_folder, sole_user

from . import __version__
from .box import Box
from .clinic.app import Clinic
from .control import control
from .settings import Settings

_log = log.Log("lianzhen.edge")


async def run(settings: Settings, command: Sequence[str]) -> None:
    """Run until cancelled. Unavailable, in one sentence, for what keeps it from starting.

    ``command`` begins the command line of this box's children, up to their verb.
    """
    log.configure(settings.log_level)
    with sole_user(private_folder(settings.folder)):
        log.keep(settings.folder, "edge", settings.log_bytes)
        box = Box(settings, command)
        clinic = Clinic(box)
        async with (
            control(box, clinic, settings.folder / "control.sock", settings.status_port),
            clinic.serving(),
        ):
            _log.info("box runs", version=__version__)
            await box.run()
