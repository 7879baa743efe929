"""DICOMweb on the hub's console: for experts what their cases are about, for admins all."""

from typing import TYPE_CHECKING

from lianzhen_hub.consoles.imaging import ADMINS, EXPERTS
from lianzhen_runtime.dicomweb.archive import Reading
from lianzhen_runtime.dicomweb.making import Workers
from lianzhen_runtime.dicomweb.rendered import Rendering
from lianzhen_runtime.dicomweb.retrieve import PREFIX, SERIES, STUDY, Retrieval
from lianzhen_runtime.web.routes import Routes

from .archive import HubArchive
from .search import Search
from .store import Storing

if TYPE_CHECKING:
    from lianzhen_hub.hub import Hub


def routes(hub: "Hub", workers: Workers) -> Routes:
    """All of them."""
    found, roles = Routes(), EXPERTS | ADMINS
    reading = Reading(HubArchive(hub))
    retrieval = Retrieval(reading, workers)
    retrieval.mount_all(found, roles)
    Rendering(reading, retrieval, workers).mount(found, roles)
    search = Search(hub, reading)
    found.get(f"{PREFIX}/studies", roles=roles)(search.studies)
    for path in (f"{PREFIX}/series", f"{STUDY}/series"):
        found.get(path, roles=roles)(search.series)
    for path in (f"{PREFIX}/instances", f"{STUDY}/instances", f"{SERIES}/instances"):
        found.get(path, roles=roles)(search.instances)
    storing = Storing(hub)
    for path in (f"{PREFIX}/studies", STUDY):
        found.post(path, roles=roles)(storing.store)
    return found
