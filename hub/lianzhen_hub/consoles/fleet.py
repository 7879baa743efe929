"""What an administrator of the hub watches: boxes, notices, records that could not be applied."""

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import msgspec
import segno
from aiohttp import web
from sqlalchemy import Connection

from lianzhen_hub.admin import views
from lianzhen_hub.fleet.concerns import CONCERNS
from lianzhen_hub.ingest.quarantine import Place, Verdict
from lianzhen_protocol.accounts import Role
from lianzhen_protocol.audit import Action
from lianzhen_runtime.web.routes import Routes, Visit

if TYPE_CHECKING:
    from lianzhen_hub.hub import Hub

ADMINS = frozenset({Role.ADMIN})


class NewClaim(msgspec.Struct, frozen=True, kw_only=True):
    """A claim to print."""

    box: str
    clinic: str
    days: int = 14


class Reason(msgspec.Struct, frozen=True, kw_only=True):
    """Why a box is taken out of service."""

    reason: str


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """Why a record of the quarantine is released or dismissed; ``body`` puts it right."""

    why: Annotated[str, msgspec.Meta(min_length=1, max_length=500)]
    body: str = ""


def routes(hub: "Hub") -> Routes:
    """Pages of the fleet."""
    found = Routes()
    found.entry("/fleet", "fleet.title", roles=ADMINS, order=70)
    found.entry("/notices", "fleet.notices", roles=ADMINS, order=71)
    found.entry("/quarantine", "fleet.quarantine", roles=ADMINS, order=72)

    def page(path: str, template: str, query: Callable[[Connection], object]) -> None:
        @found.get(path, roles=ADMINS)
        async def show(visit: Visit) -> web.Response:
            return visit.page(template, rows=await hub.database.read(query))

    @found.get("/fleet", roles=ADMINS)
    async def fleet(visit: Visit) -> web.Response:
        boxes = await hub.boxes()
        rows = sorted(boxes, key=lambda box: [*map(CONCERNS.index, box.concerns), len(CONCERNS)])
        counted = Counter(code for box in rows for code in box.concerns)
        return visit.page("fleet/nodes.html", rows=rows, counted=counted)

    page("/notices", "fleet/notices.html", views.notices)
    page("/quarantine", "fleet/quarantine.html", views.quarantine)

    @found.post("/fleet/claims", roles=ADMINS)
    async def claim(visit: Visit) -> web.Response:
        wanted = await visit.form(NewClaim)
        claim = await hub.fleet.new_claim(wanted.box, wanted.clinic, hub.public_url, wanted.days)
        await _note(hub, visit, "admit", f"box/{wanted.box}")
        image = segno.make(str(claim), error="m").svg_data_uri(scale=5)
        return visit.page("fleet/claim.html", box=wanted.box, text=str(claim), image=image)

    @found.post("/fleet/{node}/revoke", roles=ADMINS)
    async def revoke(visit: Visit) -> web.Response:
        wanted = await visit.form(Reason)
        node = visit.match("node")
        await hub.revoke(node, wanted.reason)
        await _note(hub, visit, "revoke", f"node/{node}")
        return visit.see_other("/fleet")

    @found.post("/fleet/{node}/approve", roles=ADMINS)
    async def approve(visit: Visit) -> web.Response:
        node = visit.match("node")
        await hub.fleet.approve(node, visit.query("key"))
        await _note(hub, visit, "admit", f"node/{node}")
        return visit.see_other("/fleet")

    _quarantine(hub, found)
    return found


def _quarantine(hub: "Hub", found: Routes) -> None:
    """Records that could not be applied: looked at, put right, released, dismissed."""

    @found.get("/quarantine/{place}", roles=ADMINS)
    async def held(visit: Visit) -> web.Response:
        record = await hub.held(Place.parse(visit.match("place")), visit.actor.id)
        body = msgspec.json.format(msgspec.json.encode(record.body), indent=2).decode()
        return visit.page("fleet/held.html", held=record, body=body)

    async def verdict(visit: Visit) -> Verdict:
        said = await visit.form(Decision)
        return Verdict(actor=visit.actor.id, by=visit.actor.name, why=said.why, body=said.body)

    @found.post("/quarantine/{place}/release", roles=ADMINS)
    async def release(visit: Visit) -> web.Response:
        await hub.release(Place.parse(visit.match("place")), await verdict(visit))
        return visit.see_other("/quarantine")

    @found.post("/quarantine/{place}/dismiss", roles=ADMINS)
    async def dismiss(visit: Visit) -> web.Response:
        await hub.dismiss(Place.parse(visit.match("place")), await verdict(visit))
        return visit.see_other("/quarantine")


async def _note(hub: "Hub", visit: Visit, action: Action, subject: str) -> None:
    actor = visit.actor.id
    await hub.transact(lambda page: page.audit(actor, action, subject))
