"""A console: the application around declared routes, and the guard in front of each.

In this order: is it our own page that asks (CSRF), who asks, may they, and only then the handler.
Errors are problem details for programs and a plain page for people.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import quote

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from lianzhen_protocol.accounts import Account, Actor, Role
from lianzhen_protocol.sheets import Sheets
from lianzhen_runtime.problems import json_answer, problems

from . import sessions
from .assets import STATIC
from .errors import (
    ChangePassword,
    CodeNeeded,
    ForeignPage,
    NotOpened,
    NotSignedIn,
    NotYours,
    SecondMissing,
)
from .live import Live
from .look import Look
from .noting import Looks, subject_of
from .routes import (
    ANYBODY,
    QUIET,
    SIGNED_IN,
    Audience,
    Entry,
    Route,
    Routes,
    Visit,
    wants_json,
)
from .sessions import Seat
from .store import Store
from .words import DEFAULT, LANGUAGES

LANGUAGE_COOKIE: Final = "lz-language"
SECURITY_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        "media-src 'self' blob:; connect-src 'self'; worker-src 'self'; font-src 'self'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "Permissions-Policy": "camera=(self), microphone=(self), geolocation=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # No page of another site learns where somebody was; our own forms still say their origin.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    # No Strict-Transport-Security: it would cover every port of the name, and so the plain page
    # from which a PC takes the authority that makes this one trusted.
}

_WORKERS: Final = "/static/workers/"
_HASHED: Final = ("/static/assets/", _WORKERS)
_WORKER_POLICY: Final = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; connect-src 'self'"
)
"""A worker's own script brings its policy: only there, where no page is, may WebAssembly run."""

# Browsers read a backslash as a slash, and leave out control characters before they look.
_PATH: Final = re.compile(r"/(?![/\\])[^\\\s\x00-\x1f\x7f]*")
_DETOURS: Final = {
    "not-signed-in": "/login",
    "code-needed": "/login/second",
    "password-change-needed": "/account/password",
    "second-factor-missing": "/account/second",
}


class ConsoleSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What one console is."""

    title: str
    """Key of its name in the word catalogues."""
    cookie: str
    """Distinguishes consoles on one address: cookies do not see ports."""
    admits: Callable[[Account], bool]
    """Whether an account may sign in here at all."""
    place: Callable[[], str] = lambda: ""
    """What stands beside the name: the clinic."""
    ready: Callable[[Route], None] = lambda _route: None
    """Raises what keeps a route from working now (a blank box), before anybody is asked for."""
    strip: str = ""
    """Template of what stands on top of every page of ``strip_roles``: the alarms of a clinic."""
    strip_roles: frozenset[Role] = frozenset()
    bearer: Callable[[Sheets, str, int], Seat | None] | None = None
    """Who holds an access token of a program's; none are taken without it."""
    bearer_paths: str = ""
    """What the paths begin with that such a token opens, and no others."""
    detours: dict[str, str] = {}
    """Where people are led for an error of this console's own (code -> path)."""


class Console:
    """``add`` areas, then serve ``application()``."""

    def __init__(
        self,
        settings: ConsoleSettings,
        store: Store,
        live: Live,
        now_ms: Callable[[], int],
        templates: Sequence[Path],
        texts: Sequence[Path],
    ) -> None:
        self.settings = settings
        self.store = store
        self.live = live
        self.look = Look(templates, texts, settings.title)
        self.now_ms = now_ms
        self.cookie = f"__Host-lz-{settings.cookie}"
        self.routes: list[Route] = []
        self._looks = Looks()
        self._menu: list[Entry] = []
        self._detours = _DETOURS | settings.detours
        own = Routes()
        own.get("/live", roles=SIGNED_IN)(self._live)
        own.get("/live/since", roles=SIGNED_IN)(self._since)
        own.post("/language/{language}", roles=ANYBODY)(_choose_language)
        own.get("/favicon.ico", roles=ANYBODY)(_no_icon)
        self.add([own])

    def add(self, areas: Iterable[Routes]) -> None:
        """Mount areas. ValueError if two declare one route."""
        taken = {(route.method, route.path) for route in self.routes}
        for area in areas:
            for route in area.all:
                if (route.method, route.path) in taken:
                    raise ValueError(f"{route.method} {route.path} is declared twice")
                taken.add((route.method, route.path))
                self.routes.append(route)
            self._menu += area.menu
        self._menu.sort(key=lambda entry: entry.order)

    def application(self) -> web.Application:
        """The aiohttp application; every answer of it carries the security headers."""
        app = web.Application(middlewares=[self._for_people, problems])
        app.on_response_prepare.append(protect)
        app.on_shutdown.append(self._close)
        app.router.add_static("/static/", STATIC)
        for route in self.routes:
            app.router.add_route(route.method, route.path, self._guarded(route))
        return app

    async def _close(self, _app: web.Application) -> None:
        self.live.close()

    def _guarded(self, route: Route) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            self.settings.ready(route)
            _refuse_foreign(request)
            _refuse_ahead(request)
            seat = await self._holder(route, request)
            _refuse(route, seat)
            answer = await route.handler(self._visit(request, seat))
            if seat is not None and answer.status < 300:
                await self._note(route, request, seat.account.actor)
            return answer

        return handle

    async def _note(self, route: Route, request: web.Request, actor: Actor) -> None:
        """What was looked at is in the audit log before the page leaves."""
        subject = subject_of(route, request.path, request.match_info.get("id", ""), actor)
        if subject is None:
            return
        await self._looks.note(
            actor.id,
            [subject],
            self.now_ms(),
            lambda _new: self.store.write(lambda pen: pen.look(actor.id, subject)),
            quiet=QUIET in request.headers,
        )

    async def _holder(self, route: Route, request: web.Request) -> Seat | None:
        """Who asks. Whoever shows a token is taken by that alone, whatever cookies come along."""
        bearer, said = self.settings.bearer, request.headers.get("Authorization", "")
        if bearer is None or not said or not route.path.startswith(self.settings.bearer_paths):
            return await self._seat(request)
        scheme, _, token = said.partition(" ")
        now_ms = self.now_ms()
        if scheme.lower() != "bearer" or not 0 < len(token) <= 200:
            return None
        seat = await self.store.read(lambda sheets: bearer(sheets, token.strip(), now_ms))
        return seat if seat is not None and self.settings.admits(seat.account) else None

    async def _seat(self, request: web.Request) -> Seat | None:
        token = request.cookies.get(self.cookie)
        if token is None:
            return None
        now_ms = self.now_ms()
        seat = await self.store.read(lambda sheets: sessions.seated(sheets, token, now_ms))
        if seat is None or not self.settings.admits(seat.account):
            return None
        quiet = QUIET in request.headers or request.path == "/live"
        if not quiet and now_ms - seat.session.seen_ms > sessions.TOUCH_MS:
            await self.store.write(lambda pen: sessions.touch(pen, seat.session))
        return seat

    def _visit(self, request: web.Request, seat: Seat | None) -> Visit:
        frame = self.look.frame(language_of(request), request.path)
        frame |= {"place": self.settings.place(), "now_ms": self.now_ms()}
        frame["live_position"] = self.live.position  # before the handler reads anything
        visit = Visit(request, seat, self.look, self.live, frame, self._audience)
        if visit.someone is not None:
            roles = visit.someone.roles
            frame["menu"] = [entry for entry in self._menu if not entry.roles.isdisjoint(roles)]
            if not roles.isdisjoint(self.settings.strip_roles):
                frame["strip"] = self.settings.strip
        return visit

    def _audience(self, path: str) -> Audience:
        """Who may see the page of a declared path."""
        shown = (route for route in self.routes if (route.method, route.path) == ("GET", path))
        return next((route.roles for route in shown), frozenset())

    async def _live(self, visit: Visit) -> web.StreamResponse:
        async def welcome() -> Actor | None:
            seat = await self._seat(visit.request)
            return None if seat is None else seat.account.actor

        return await self.live.serve(visit.request, welcome)

    async def _since(self, visit: Visit) -> web.StreamResponse:
        """For a page that joins another one's stream."""
        return json_answer({"events": self.live.since(visit.query("after"), visit.actor)})

    @web.middleware
    async def _for_people(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        answer = await handler(request)
        if answer.content_type != "application/problem+json" or wants_json(request):
            return answer
        if "text/html" not in request.headers.get("Accept", ""):
            return answer
        if not isinstance(answer, web.Response) or not isinstance(answer.body, bytes):
            return answer
        found = msgspec.json.decode(answer.body, type=_Problem)
        if (detour := self._detours.get(found.code)) is not None and request.path != detour:
            back = request.rel_url.path_qs if request.method == "GET" else "/"
            return web.Response(status=303, headers={"Location": f"{detour}?next={quote(back)}"})
        page = self._visit(request, None).page(
            "problem.html",
            status=found.status,
            number=found.status,
            code=found.code,
            detail=found.detail,
        )
        page.headers.update({k: v for k, v in answer.headers.items() if k == "Retry-After"})
        return page


class _Problem(msgspec.Struct):
    status: int
    code: str
    detail: str


def language_of(request: web.Request) -> str:
    """The language that was chosen; Chinese until one is."""
    for offered in (request.query.get("lang"), request.cookies.get(LANGUAGE_COOKIE)):
        if offered in LANGUAGES:
            return offered
    return DEFAULT


def local_path(text: str) -> str:
    """``text`` if it is a path of this console, else its first page: no redirect leads away."""
    return text if _PATH.fullmatch(text) else "/"


async def _choose_language(visit: Visit) -> web.StreamResponse:
    language = visit.match("language")
    fields = await visit.request.post()
    answer = visit.see_other(local_path(str(fields.get("next", "/"))))
    if language in LANGUAGES:
        answer.set_cookie(
            LANGUAGE_COOKIE, language, max_age=365 * 86400, secure=True, samesite="Strict"
        )
    return answer


async def _no_icon(_visit: Visit) -> web.StreamResponse:
    """Browsers ask for it by themselves; our pages name none."""
    return web.Response(status=204)


def _refuse_foreign(request: web.Request) -> None:
    """Only our own pages change anything. A browser says who asks; other programs have no cookie
    that they were not given."""
    if request.method in {"GET", "HEAD"}:
        return
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        if site not in {"same-origin", "none"}:
            raise ForeignPage
        return
    origin = request.headers.get("Origin")
    if origin is not None and origin != f"{request.scheme}://{request.host}":
        raise ForeignPage


def _refuse_ahead(request: web.Request) -> None:
    """A browser may load a page before anybody opens it; to look is noted, and may be told."""
    if "prefetch" in request.headers.get("Sec-Purpose", request.headers.get("Purpose", "")):
        raise NotOpened


def _refuse(route: Route, seat: Seat | None) -> None:
    if None in route.roles:
        return
    if seat is None:
        raise NotSignedIn
    account = seat.account
    if seat.session.stage != "open":
        raise CodeNeeded
    if not route.early:
        if account.secret.must_change:
            raise ChangePassword
        if account.needs_second_factor and not account.secret.totp:
            raise SecondMissing
    if route.roles.isdisjoint(account.profile.roles):
        raise NotYours


async def protect(request: web.Request, response: web.StreamResponse) -> None:
    """Every answer: the security headers, and how long it may be kept."""
    response.headers.update(SECURITY_HEADERS)
    if request.path.startswith(_WORKERS):
        response.headers["Content-Security-Policy"] = _WORKER_POLICY
    response.headers.popall("Server", None)  # whose version is nobody's business
    if request.path.startswith(_HASHED):  # the name holds a hash of the content
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
    else:
        response.headers.setdefault("Cache-Control", "no-store")
