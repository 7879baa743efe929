"""The admin's door: a Unix socket in the state folder, for its owner alone.

Whoever can open the socket can already read the database, so there is no second password here;
accounts and roles come with the consoles.
"""

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import msgspec
from aiohttp import web
from sqlalchemy import Connection

from lianzhen_hub.hub import Hub
from lianzhen_hub.ingest.projector import RECEIPTS
from lianzhen_hub.ingest.quarantine import Place, Verdict
from lianzhen_hub.page import HubPage
from lianzhen_hub.settlement import desk as settlement
from lianzhen_hub.settlement import ledger
from lianzhen_hub.settlement import views as money
from lianzhen_hub.settlement.export import beancount
from lianzhen_protocol.identity import record_id
from lianzhen_protocol.records import RecordSeen
from lianzhen_runtime.problems import json_answer, problems
from lianzhen_runtime.web import owner
from lianzhen_runtime.web.staff import Registry

from . import tokens, views

Body = TypeVar("Body")
View = TypeVar("View")


class NewClaim(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A claim to print."""

    box: str
    clinic: str
    days: int = 14


class ClaimText(msgspec.Struct, frozen=True, kw_only=True):
    """What goes onto the leaflet; the code stands nowhere else."""

    text: str


class Revocation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why a box is taken out of service."""

    reason: str


class Reversal(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why a claim is taken back, and by whom."""

    reason: Annotated[str, msgspec.Meta(min_length=1)]
    by: Annotated[str, msgspec.Meta(min_length=1)]


class Decision(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to become of a record in quarantine; ``body`` is JSON, "" for the original."""

    by: Annotated[str, msgspec.Meta(min_length=1)]
    why: Annotated[str, msgspec.Meta(min_length=1, max_length=500)]
    body: str = ""

    @property
    def verdict(self) -> Verdict:
        """As the quarantine wants it."""
        return Verdict(actor=self.by, by=self.by, why=self.why, body=self.body)


class NewBackup(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a backup is to be made."""

    folder: str


class Adoption(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a restored hub does not know of a box that was enrolled after its backup."""

    box: str
    clinic: str


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """It was done."""

    done: bool = True


def application(hub: Hub, registry: Registry) -> web.Application:
    """Every admin route."""
    app = web.Application(middlewares=[problems])
    desk = _Desk(hub)
    app.add_routes(
        [
            web.post("/claims", desk.claim),
            web.get("/nodes", desk.nodes),
            web.post("/nodes/{node}/revoke", desk.revoke),
            web.post("/nodes/{node}/approve", desk.approve),
            web.post("/nodes/{node}/refuse", desk.refuse),
            web.post("/nodes/{node}/adopt", desk.adopt),
            web.get("/log", desk.view(_log)),
            web.get("/streams", desk.view(lambda db, _: views.streams(db))),
            web.get("/quarantine", desk.view(lambda db, _: views.quarantine(db))),
            web.get("/quarantine/{place}", desk.held),
            web.post("/quarantine/{place}/release", desk.release),
            web.post("/quarantine/{place}/dismiss", desk.dismiss),
            web.get("/notices", desk.view(lambda db, _: views.notices(db))),
            web.get("/records/{id}", desk.open),
            web.post("/backup", desk.backup),
            web.post("/recovery-key", desk.recovery_key),
            web.get("/ledger", desk.view(lambda db, _: money.of_ledger(db))),
            web.get("/ledger/export", desk.export),
            web.post("/ledger/{claim}/reverse", desk.reverse),
            web.get("/status", desk.status),
            *tokens.routes(hub, registry),
            *owner.routes(lambda: registry, lambda: ""),
        ]
    )
    return app


def _log(db: Connection, request: web.Request) -> list[views.RecordView]:
    query = request.query
    return views.log(db, query.get("node"), query.get("stream"), int(query.get("limit", "20")))


class _Desk:
    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    async def claim(self, request: web.Request) -> web.Response:
        wanted = await _body(request, NewClaim)
        claim = await self._hub.fleet.new_claim(
            wanted.box, wanted.clinic, self._hub.public_url, wanted.days
        )
        return json_answer(ClaimText(text=str(claim)), 201)

    async def revoke(self, request: web.Request) -> web.Response:
        wanted = await _body(request, Revocation)
        await self._hub.revoke(request.match_info["node"], wanted.reason)
        return json_answer(Done())

    async def adopt(self, request: web.Request) -> web.Response:
        wanted = await _body(request, Adoption)
        await self._hub.fleet.adopt(request.match_info["node"], wanted.box, wanted.clinic)
        return json_answer(Done())

    async def approve(self, request: web.Request) -> web.Response:
        await self._hub.fleet.approve(request.match_info["node"], request.query.get("key", ""))
        return json_answer(Done())

    async def refuse(self, request: web.Request) -> web.Response:
        await self._hub.fleet.refuse(request.match_info["node"], request.query.get("key", ""))
        return json_answer(Done())

    async def open(self, request: web.Request) -> web.Response:
        """Show a record to a person, by name: that is what ``seen`` means at the box."""
        try:
            identity = record_id(bytes.fromhex(request.match_info["id"]))
        except ValueError as error:
            raise views.NoSuchRecord("a record id is 32 hexadecimal digits") from error
        person = request.query.get("by", "")
        hub = self._hub
        found = await hub.database.read(lambda db: views.opened(db, hub.vault, identity))

        def note(page: HubPage) -> None:
            page.audit(person or "admin", "read", f"record/{identity.hex()}")
            if person:
                seen = RecordSeen(record_id=identity, seen_by=person, seen_ms=page.now_ms)
                page.send(found.about.node, RECEIPTS, seen)

        await hub.transact(note)
        return json_answer(found)

    async def held(self, request: web.Request) -> web.Response:
        place = Place.parse(request.match_info["place"])
        found = await self._hub.held(place, request.query.get("by") or "admin")
        return json_answer(found)

    async def release(self, request: web.Request) -> web.Response:
        wanted = await _body(request, Decision)
        await self._hub.release(Place.parse(request.match_info["place"]), wanted.verdict)
        return json_answer(Done())

    async def dismiss(self, request: web.Request) -> web.Response:
        wanted = await _body(request, Decision)
        await self._hub.dismiss(Place.parse(request.match_info["place"]), wanted.verdict)
        return json_answer(Done())

    async def nodes(self, _request: web.Request) -> web.Response:
        return json_answer(await self._hub.boxes())

    async def backup(self, request: web.Request) -> web.Response:
        wanted = await _body(request, NewBackup)
        return json_answer(await self._hub.backups.make(wanted.folder))

    async def recovery_key(self, _request: web.Request) -> web.Response:
        key = self._hub.backups.recovery_key()
        await self._hub.transact(lambda page: page.audit("admin", "change", "backup/recovery-key"))
        return json_answer({"key": key})

    async def export(self, _request: web.Request) -> web.Response:
        text = await self._hub.database.read(lambda db: list(beancount(ledger.everything(db))))
        return json_answer(text)

    async def reverse(self, request: web.Request) -> web.Response:
        said, claim = await _body(request, Reversal), request.match_info["claim"]
        done = await self._hub.transact(
            lambda page: settlement.reverse(page, claim, said.reason, said.by)
        )
        return json_answer({"claim": done.id, "state": done.state, "reversal": done.reversal})

    async def status(self, _request: web.Request) -> web.Response:
        return json_answer(self._hub.status())

    def view(
        self, query: Callable[[Connection, web.Request], View]
    ) -> Callable[[web.Request], Any]:
        """A handler that answers with one read."""

        async def handler(request: web.Request) -> web.Response:
            return json_answer(await self._hub.database.read(lambda db: query(db, request)))

        return handler


async def _body(request: web.Request, kind: type[Body]) -> Body:
    return msgspec.json.decode(await request.read(), type=kind)
