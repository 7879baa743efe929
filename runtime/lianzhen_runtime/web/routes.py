"""Routes that say who may come, and the visit that a handler is given.

Default deny: a route is declared with its roles, and nothing is reached that is not declared.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple, TypeVar, get_origin

import msgspec
from aiohttp import web
from multidict import MultiDictProxy

from lianzhen_protocol.accounts import Actor, Role
from lianzhen_runtime.problems import json_answer

from .errors import NotSignedIn
from .live import Live
from .look import Look
from .once import Act, Given, P, T, key_of
from .sessions import Seat

Audience = frozenset[Role | None]

SIGNED_IN: Final = frozenset(Role)
ANYBODY: Final[frozenset[Role | None]] = frozenset({None, *Role})
"""None stands for whoever is not signed in."""

QUIET: Final = "Lz-Quiet"
"""Header of what a page asks for by itself: it does not keep a session alive."""

OPENING: Final = "opening"
"""Its value for a part that is loaded with its page, which a person opened."""

Form = TypeVar("Form", bound=msgspec.Struct)
Handler = Callable[["Visit"], Awaitable[web.StreamResponse]]
_encoder = msgspec.json.Encoder()


class Route(NamedTuple):
    """One method of one path, and for whom."""

    method: str
    path: str
    roles: Audience
    handler: Handler
    early: bool
    """Reached also before the password is changed and the second factor is set up."""


class Entry(NamedTuple):
    """A line of the menu: where to, which word, for whom."""

    path: str
    word: str
    roles: Audience
    order: int


class Routes:
    """What one area of a console declares."""

    def __init__(self) -> None:
        self.all: list[Route] = []
        self.menu: list[Entry] = []

    def add(
        self, method: str, path: str, *, roles: Audience, early: bool = False
    ) -> Callable[[Handler], Handler]:
        """Declare a route; ValueError for one that is for nobody."""
        if not roles:
            raise ValueError(f"{method} {path} is declared for nobody")

        def keep(handler: Handler) -> Handler:
            self.all.append(Route(method, path, roles, handler, early))
            return handler

        return keep

    def get(
        self, path: str, *, roles: Audience, early: bool = False
    ) -> Callable[[Handler], Handler]:
        """A page or a fragment; it changes nothing that a person would miss."""
        return self.add("GET", path, roles=roles, early=early)

    def post(
        self, path: str, *, roles: Audience, early: bool = False
    ) -> Callable[[Handler], Handler]:
        """Something is done."""
        return self.add("POST", path, roles=roles, early=early)

    def put(self, path: str, *, roles: Audience) -> Callable[[Handler], Handler]:
        """Something is stored under a name of the caller's."""
        return self.add("PUT", path, roles=roles)

    def entry(self, path: str, word: str, *, roles: Audience, order: int = 50) -> None:
        """A line of the menu; ``word`` is a key of the catalogues."""
        self.menu.append(Entry(path, word, roles, order))


class Visit:
    """One request: who asks, in which language, and how to answer."""

    def __init__(
        self,
        request: web.Request,
        seat: Seat | None,
        look: Look,
        live: Live,
        frame: dict[str, object],
        opens: Callable[[str], Audience],
    ) -> None:
        self.request = request
        self.seat = seat
        self.live = live
        self.language = str(frame["language"])
        self._look = look
        self._frame = frame
        self._opens = opens

    @property
    def actor(self) -> Actor:
        """Who is signed in; NotSignedIn on a route for anybody."""
        if self.someone is None:
            raise NotSignedIn
        return self.someone

    @property
    def someone(self) -> Actor | None:
        """The same, or None."""
        return self.seat.account.actor if self.seat and self.seat.session.stage == "open" else None

    @property
    def opened(self) -> bool:
        """Whether a person opened this, and not a page that has been open and looks again: only
        the first may be told to anybody as seen."""
        return self.request.headers.get(QUIET, OPENING) == OPENING

    @property
    def wants_json(self) -> bool:
        """Whether a program asks."""
        return wants_json(self.request)

    def match(self, name: str) -> str:
        """A variable part of the path."""
        return self.request.match_info[name]

    def query(self, name: str, default: str = "") -> str:
        """A parameter after the question mark."""
        return self.request.query.get(name, default)

    def t(self, key: str, **values: object) -> str:
        """A word or sentence in the visitor's language."""
        return self._look.words.say(self.language, key, **values)

    async def form(self, kind: type[Form]) -> Form:
        """Form fields or a JSON object as ``kind``; msgspec.ValidationError (422) says what is not.

        A form cannot leave a field out: an empty one counts as absent where ``kind`` has a default.
        """
        if self.request.content_type == "application/json":
            return msgspec.json.decode(await self.request.read(), type=kind)
        return msgspec.convert(_fields(await self.request.post(), kind), kind, strict=False)

    async def act(self) -> Act:
        """This sending of a form, by the id in its field ``once``; a program may leave it out."""
        body = await self.request.read()
        given = await self.form(Given) if body else Given()
        if not given.once:
            return Act()
        who = self.someone.id if self.someone else ""
        return Act(key_of(who, self.request.path, given.once, body))

    async def once(
        self,
        transact: Callable[[Callable[[P], T]], Awaitable[T]],
        work: Callable[[P], T],
        kind: type[T],
    ) -> T:
        """``transact(work)``, but what was done is not done again: see ``once.Act``."""
        return await (await self.act()).do(transact, work, kind)

    def page(self, template: str, /, *, status: int = 200, **context: Any) -> web.Response:
        """A page, or for a program the same values as JSON. Never kept by a cache."""
        if self.wants_json:
            answer = json_answer(context, status)
        else:
            values = self._frame | {"visit": self, "actor": self.someone} | context
            text = self._look.render(template, values)
            answer = web.Response(text=text, content_type="text/html", status=status)
        answer.headers["Cache-Control"] = "no-store"
        return answer

    def has(self, path: str) -> bool:
        """Whether this console has such a route: pages are put together from areas that are there.

        ``path`` as it was declared, ``/cases/{id}/vitals``.
        """
        found = self.request.app.router.resources()
        return any(resource.canonical == path for resource in found)

    def opens(self, path: str) -> bool:
        """Whether this visitor may open such a page: no link leads where one is turned away."""
        roles = self.someone.roles if self.someone else frozenset()
        return bool(self._opens(path) & roles)

    def see_other(self, location: str, **more: Any) -> web.Response:
        """Done: go on there. A program gets ``{"location": ..., **more}`` instead."""
        if self.wants_json:
            return json_answer({"location": location} | more)
        return web.Response(status=303, headers={"Location": location})


def wants_json(request: web.Request) -> bool:
    """Whether a program asks: it says so, or it sends JSON and does not ask for HTML."""
    accept = request.headers.get("Accept", "")
    if "text/html" in accept:
        return False
    return "application/json" in accept or request.content_type == "application/json"


def _fields(
    found: MultiDictProxy[str | bytes | bytearray | web.FileField], kind: type[msgspec.Struct]
) -> dict[str, object]:
    values: dict[str, object] = {}
    for field in msgspec.structs.fields(kind):
        name = field.encode_name
        texts = [value for value in found.getall(name, []) if isinstance(value, str)]
        if get_origin(field.type) in {list, tuple, set, frozenset}:
            values[name] = texts
        elif texts and (texts[0] != "" or field.required):
            values[name] = texts[0]
    return values
