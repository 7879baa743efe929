"""The hub's images by their UIDs, for whom they are: the rule of the console's own pages.

Several boxes, or a box and whoever stores here, may have images of one study. Of two under one
SOP Instance UID the one that came first is what that UID names; the other is flagged (``differs``)
and shown on the console.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from lianzhen_hub.consoles.imaging import NoSuchImage, study_for
from lianzhen_hub.imaging.stores import Name
from lianzhen_hub.page import HubPage
from lianzhen_protocol.accounts import Actor
from lianzhen_protocol.audit import Action
from lianzhen_protocol.imaging import SAFE, Instance, Study, images_of
from lianzhen_protocol.sheets import Sheets
from lianzhen_runtime.dicomweb.archive import NoSuchImages
from lianzhen_runtime.web.noting import Looks
from lianzhen_runtime.web.routes import Visit

if TYPE_CHECKING:
    from lianzhen_hub.hub import Hub


HUB: Final = "hub"
"""The node of what was stored here, and came from no box. It goes with the study of the same UID
and patient that a box brought."""


def may_see(sheets: Sheets, actor: Actor, study: Study) -> bool:
    """Whether a study is for this person."""
    try:
        study_for(sheets, actor, study.id)
    except NoSuchImage:
        return False
    return True


def studies_named(sheets: Sheets, actor: Actor, uid: str) -> list[Study]:
    """Those with this UID that are for this person, the one that came first before others."""
    named = sheets.find_token(Study, "uid", uid)
    found = [one for one in named if may_see(sheets, actor, one)]
    patients = {one.patient_id for one in found} - {""}
    found += [one for one in named if one.node == HUB and one.patient_id in patients]
    found = list({one.id: one for one in found}.values())
    return sorted(found, key=lambda one: (one.first_ms, one.id))


def named_once(images: Iterable[Instance]) -> list[Instance]:
    """Images that are here, each SOP Instance UID once."""
    found: dict[str, Instance] = {}
    for image in images:
        known = found.get(image.sop_uid)
        if image.state == SAFE and (known is None or _first(image) < _first(known)):
            found[image.sop_uid] = image
    return sorted(found.values(), key=Instance.order)


def _first(image: Instance) -> tuple[bool, int, str]:
    return image.differs, image.stored_ms, image.id


class HubArchive:
    """``Archive`` of the hub."""

    def __init__(self, hub: "Hub") -> None:
        self._hub = hub
        self._looks = Looks()

    async def find(
        self, visit: Visit, study: str, series: str = "", instance: str = ""
    ) -> list[Instance]:
        """Images that are here, by UIDs, in reading order; NoSuchImages for whom they are not."""
        actor = visit.actor

        def look(sheets: Sheets) -> list[Instance]:
            studies = [one.id for one in studies_named(sheets, actor, study)]
            if not studies:
                raise NoSuchImages
            if instance:
                named = sheets.find_token(Instance, "sop", instance)
                images = [one for one in named if one.study in studies]
            else:
                images = [one for key in studies for one in images_of(sheets, key)]
            return [one for one in named_once(images) if series in ("", one.series_uid)]

        return await self._hub.consult(look)

    async def content(self, image: Instance, begin: int = 0, end: int | None = None) -> bytes:
        """Bytes of the Part 10 file; FileNotFoundError or SealBroken."""
        name = Name(image.node, image.id, "original")
        if begin == 0 and end is None:
            return await self._hub.objects.content(name)
        return await self._hub.objects.part(name, begin, image.size if end is None else end)

    async def looked(self, visit: Visit, images: list[Instance]) -> None:
        """Somebody looks at them: in the audit log before they leave, once for a sitting."""
        actor = visit.actor.id
        subjects = sorted({f"{Study.SHEET}/{image.study}" for image in images})
        await self._looks.note(
            actor,
            subjects,
            self._hub.now_ms(),
            lambda new: self._note(actor, "read", new),
            quiet=True,
        )

    async def taken(self, visit: Visit, images: list[Instance]) -> None:
        """Somebody takes copies: in the audit log before they leave, each time."""
        if len(images) == 1:
            subjects = [f"{Instance.SHEET}/{images[0].id}"]
        else:
            subjects = sorted({f"{Study.SHEET}/{image.study}" for image in images})
        await self._note(visit.actor.id, "export", subjects)

    async def _note(self, actor: str, action: Action, subjects: list[str]) -> None:
        def work(page: HubPage) -> None:
            for subject in subjects:
                page.audit(actor, action, subject)

        await self._hub.transact(work)
