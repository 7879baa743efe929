"""From a blank box to a clinic that can sign in: the claim, then the first account, once.

Whoever holds the claim may make the first account: the claim's code is printed on the leaflet in
the box's carton, and nothing else is there yet to know people by. Its hash is kept from the claim
until that account is made, also where the claim was given on the command line.
"""

import asyncio
import hmac
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

from lianzhen_protocol import claims
from lianzhen_protocol.accounts import Role
from lianzhen_protocol.claims import Claim
from lianzhen_protocol.errors import ClaimError
from lianzhen_runtime.files import remove_durably, write_durably
from lianzhen_runtime.web import sessions
from lianzhen_runtime.web.errors import NoSuchThing, Unfit
from lianzhen_runtime.web.login import with_cookie
from lianzhen_runtime.web.routes import ANYBODY, Routes, Visit
from lianzhen_runtime.web.staff import NewAccount, Registry

if TYPE_CHECKING:
    from lianzhen_edge.box import Box

FILE = "first-account"


class ClaimForm(msgspec.Struct, frozen=True, kw_only=True):
    """The text of the leaflet."""

    claim: str


class FirstAccount(msgspec.Struct, frozen=True, kw_only=True):
    """The clinic's first administrator, by whoever holds the claim."""

    claim: str
    login: str
    name: str
    password: str
    again: str = ""


def remember(folder: Path, claim: Claim) -> None:
    """Note that this claim's holder may make the first account."""
    write_durably(folder / FILE, sha256(claim.code).hexdigest().encode())


def routes(box: "Box", registry: Registry) -> Routes:
    """The setup page, until there is a first account."""
    found = Routes()
    file = box.settings.folder / FILE
    one_at_a_time = asyncio.Lock()

    @found.get("/setup", roles=ANYBODY)
    async def show(visit: Visit) -> web.Response:
        return _page(box, visit, open_=file.exists())

    @found.post("/setup/claim", roles=ANYBODY)
    async def claim(visit: Visit) -> web.Response:
        given = await visit.form(ClaimForm)
        try:
            box.claim(claims.parse(given.claim))
        except ClaimError as error:
            if visit.wants_json:
                raise
            return _page(box, visit, open_=file.exists(), wrong=str(error))
        return visit.see_other("/setup")

    @found.post("/setup/account", roles=ANYBODY)
    async def account(visit: Visit) -> web.Response:
        given = await visit.form(FirstAccount)
        async with one_at_a_time:
            try:
                _check(file, given)
                wanted = NewAccount(
                    login=given.login,
                    name=given.name,
                    roles=[Role.ADMIN],
                    node=box.node,
                )
                made, _ = await registry.make(wanted, "", given.password)
            except (Unfit, ClaimError) as error:
                if visit.wants_json:
                    raise
                word = error.word if isinstance(error, Unfit) else ""
                sentence = visit.t(word) if word else str(error)
                return _page(box, visit, open_=file.exists(), wrong=sentence)
            remove_durably(file)
        token = await registry.store.write(lambda pen: sessions.begin(pen, made, "open"))
        answer = visit.see_other("/account/second", id=made.id)
        return with_cookie(registry.doorman.console, answer, token)

    return found


def _check(file: Path, given: FirstAccount) -> None:
    try:
        kept = file.read_bytes()
    except FileNotFoundError:
        raise NoSuchThing("the first account is made; ask your administrator for one") from None
    code = claims.parse(given.claim).code
    if not hmac.compare_digest(kept, sha256(code).hexdigest().encode()):
        raise Unfit("this is not the claim that the box was enrolled with", "setup.other_claim")
    if given.again and given.password != given.again:
        raise Unfit("the two passwords differ", "login.differ")


def _page(box: "Box", visit: Visit, *, open_: bool, wrong: str = "") -> web.Response:
    status = box.status()
    if status.state == "enrolled" and not open_:
        raise NoSuchThing("the box is set up; sign in instead")
    return visit.page(
        "setup/setup.html",
        status=422 if wrong else 200,
        state=status.state,
        sentence=status.sentence,
        clinic=status.clinic,
        wrong=wrong,
    )
