"""DICOMweb on the hub's console: for experts what their cases are about, for admins all."""

from typing import TYPE_CHECKING

from lianzhen_hub.consoles.imaging import ADMINS, EXPERTS
from lianzhen_runtime.dicomweb.archive import Reading
from lianzhen_runtime.dicomweb.making import Workers
from lianzhen_runtime.dicomweb.retrieve import Retrieval
from lianzhen_runtime.web.routes import Routes

from .archive import HubArchive

if TYPE_CHECKING:
    from lianzhen_hub.hub import Hub


def routes(hub: "Hub", workers: Workers) -> Routes:
    """All of them."""
    found = Routes()
    Retrieval(Reading(HubArchive(hub)), workers).mount_all(found, EXPERTS | ADMINS)
    return found
