"""Signing in and out, and what everybody does with their own account. Works with the line down."""

import math
import secrets
import time
from typing import Final
from urllib.parse import quote

import msgspec
import segno
from aiohttp import web

from lianzhen_protocol import accounts
from lianzhen_protocol.accounts import Account
from lianzhen_protocol.sheets import Index, Sheet, Sheets
from lianzhen_runtime.limits import Buckets

from . import sessions
from .console import Console, local_path
from .errors import CodeNeeded, NotSignedIn, TooOften, Unfit, WrongSecret
from .passwords import Passwords
from .routes import ANYBODY, SIGNED_IN, Routes, Visit
from .sessions import Seat
from .store import Pen

_ISSUER: Final = "Lianzhen"


class StepUsed(Sheet, frozen=True, kw_only=True):
    """The last time step whose code an account used here: no code works twice."""

    SHEET = "totp-step"

    account: str
    step: int

    def index(self) -> Index:
        return Index(self.account)


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """The sign-in form. A program may send the code at once."""

    login: str
    password: str
    code: str = ""
    next: str = "/"


class Code(msgspec.Struct, frozen=True, kw_only=True):
    """Six digits, or a recovery code."""

    code: str
    next: str = "/"


class NewPassword(msgspec.Struct, frozen=True, kw_only=True):
    """One's own password, changed."""

    old: str
    new: str
    again: str


class Doorman:
    """Checks passwords and codes, and how often somebody tries."""

    def __init__(self, console: Console, passwords: Passwords | None = None) -> None:
        self.console = console
        self.passwords = passwords or Passwords()
        self._by_login = Buckets(time.monotonic, burst=8, every=30.0)
        self._by_address = Buckets(time.monotonic, burst=40, every=3.0)
        self._codes = Buckets(time.monotonic, burst=6, every=60.0)

    async def account(self, visit: Visit, login: str, password: str) -> Account:
        """The account that both fit; TooOften or WrongSecret. It takes as long for nobody."""
        address = visit.request.remote or ""
        _within(self._by_address, address)
        _within(self._by_login, login.casefold())
        name = login.strip().lower()
        found = await self.console.store.read(lambda sheets: _named(sheets, name))
        for account in [one for one in found if one.active and self.console.settings.admits(one)]:
            if await self.passwords.fits(account.secret.password, password):
                self._by_login.forget(login.casefold())
                self._by_address.forget(address)
                return account
        if not found:
            await self.passwords.fits(None, password)
        raise WrongSecret

    async def own_password(self, account: Account, password: str) -> None:
        """WrongSecret unless it is this account's."""
        _within(self._by_login, account.id)
        if not await self.passwords.fits(account.secret.password, password):
            raise WrongSecret
        self._by_login.forget(account.id)

    def code(self, pen: Pen, account: Account, code: str) -> Account:
        """Use a code up; the account after it. TooOften or WrongSecret."""
        _within(self._codes, account.id)
        used = pen.get(StepUsed, account.id)
        after = used.step if used else 0
        step = accounts.totp_step(account.secret.totp, code, pen.now_ms, after)
        if step is not None:
            pen.put(StepUsed(account=account.id, step=step))
        else:
            account = _without_recovery(pen, account, code)
        self._codes.forget(account.id)
        return account


def routes(doorman: Doorman) -> Routes:
    """The pages of signing in and of one's own account."""
    found = Routes()
    console = doorman.console

    @found.get("/login", roles=ANYBODY)
    async def ask(visit: Visit) -> web.Response:
        return visit.page("login/login.html", next=local_path(visit.query("next", "/")), wrong="")

    @found.post("/login", roles=ANYBODY)
    async def login(visit: Visit) -> web.StreamResponse:
        given = await visit.form(Credentials)
        try:
            account = await doorman.account(visit, given.login, given.password)
        except (WrongSecret, TooOften) as error:
            if visit.wants_json:
                raise
            return _again(visit, "login/login.html", error, local_path(given.next))

        def begin(pen: Pen) -> tuple[str, bool]:
            ready = account
            if account.secret.totp and not given.code:
                return sessions.begin(pen, account, "second"), False
            if account.secret.totp:
                ready = doorman.code(pen, account, given.code)
            pen.note(ready, "signed-in")
            return sessions.begin(pen, ready, "open"), True

        token, open_ = await console.store.write(begin)
        if open_:
            return with_cookie(console, visit.see_other(local_path(given.next)), token)
        if visit.wants_json:
            raise CodeNeeded
        back = quote(local_path(given.next))
        return with_cookie(console, visit.see_other(f"/login/second?next={back}"), token)

    @found.get("/login/second", roles=ANYBODY)
    async def ask_second(visit: Visit) -> web.Response:
        if visit.seat is None:
            raise NotSignedIn
        back = local_path(visit.query("next", "/"))
        return visit.page("login/second.html", next=back, wrong="")

    @found.post("/login/second", roles=ANYBODY)
    async def second(visit: Visit) -> web.StreamResponse:
        seat, given = _seated(visit), await visit.form(Code)

        def finish(pen: Pen) -> str:
            account = doorman.code(pen, _fresh(pen, seat), given.code)
            pen.delete(sessions.Session, seat.session.id)
            pen.note(account, "signed-in")
            return sessions.begin(pen, account, "open")

        try:
            token = await console.store.write(finish)
        except (WrongSecret, TooOften) as error:
            if visit.wants_json:
                raise
            return _again(visit, "login/second.html", error, local_path(given.next))
        return with_cookie(console, visit.see_other(local_path(given.next)), token)

    @found.post("/logout", roles=ANYBODY)
    async def logout(visit: Visit) -> web.StreamResponse:
        if visit.seat is not None:
            ended = visit.seat.session.id
            await console.store.write(lambda pen: pen.delete(sessions.Session, ended))
            console.live.wake()
        answer = visit.see_other("/login")
        answer.del_cookie(console.cookie, secure=True, httponly=True, samesite="Strict")
        return answer

    _own_account(found, doorman)
    _second_factor(found, doorman)
    return found


def _own_account(found: Routes, doorman: Doorman) -> None:
    @found.get("/account", roles=SIGNED_IN, early=True)
    async def own(visit: Visit) -> web.Response:
        account = _seated(visit).account
        second = bool(account.secret.totp)
        left = len(account.secret.recovery)
        return visit.page("login/account.html", who=account.profile, second=second, left=left)

    @found.get("/account/password", roles=SIGNED_IN, early=True)
    async def ask_password(visit: Visit) -> web.Response:
        must = _seated(visit).account.secret.must_change
        return visit.page("login/password.html", must=must, wrong="", next="/")

    @found.post("/account/password", roles=SIGNED_IN, early=True)
    async def password(visit: Visit) -> web.StreamResponse:
        seat, given = _seated(visit), await visit.form(NewPassword)
        try:
            await _change_password(doorman, seat, given)
        except (WrongSecret, TooOften, Unfit) as error:
            if visit.wants_json:
                raise
            must = seat.account.secret.must_change
            return _again(visit, "login/password.html", error, "/", must=must)
        return visit.see_other("/")


def _second_factor(found: Routes, doorman: Doorman) -> None:
    console = doorman.console

    @found.get("/account/second", roles=SIGNED_IN, early=True)
    async def offer(visit: Visit) -> web.Response:
        """A secret to scan. It stays the same until it is confirmed or the session ends."""
        seat = _seated(visit)
        if seat.account.secret.must_change:
            return _moved("/account/password")
        pending = seat.session.pending or accounts.totp_secret(
            secrets.token_bytes(accounts.TOTP_BYTES)
        )
        if not seat.session.pending:
            kept = msgspec.structs.replace(seat.session, pending=pending)
            await console.store.write(lambda pen: pen.put(kept))
        return _offered(visit, seat, pending)

    @found.post("/account/second", roles=SIGNED_IN, early=True)
    async def confirm(visit: Visit) -> web.StreamResponse:
        """The first right code sets it up; the recovery codes are shown once."""
        seat, given = _seated(visit), await visit.form(Code)
        codes = tuple(
            accounts.recovery_code(secrets.token_bytes(10)) for _ in range(accounts.RECOVERY_CODES)
        )
        try:
            await console.store.write(lambda pen: _enrol(pen, seat, given.code, codes))
        except WrongSecret as error:
            if visit.wants_json:
                raise
            return _offered(visit, seat, seat.session.pending, error)
        console.live.wake()
        return visit.page("login/recovery.html", recovery=codes)


def _offered(
    visit: Visit, seat: Seat, pending: str, error: WrongSecret | None = None
) -> web.Response:
    label = f"{_ISSUER}:{seat.account.profile.login}"
    uri = f"otpauth://totp/{label}?secret={pending}&issuer={_ISSUER}"
    image = "" if visit.wants_json else segno.make(uri, error="m").svg_data_uri(scale=5)
    return visit.page(
        "login/offer.html",
        status=200 if error is None else error.http_status,
        secret=pending,
        uri=uri,
        image=image,
        again=bool(seat.account.secret.totp),
        wrong="" if error is None else visit.t("login.wrong"),
    )


def _enrol(pen: Pen, seat: Seat, code: str, codes: tuple[str, ...]) -> None:
    secret = seat.session.pending
    step = accounts.totp_step(secret, code, pen.now_ms) if secret else None
    if step is None:
        raise WrongSecret
    account = _fresh(pen, seat)
    digests = tuple(accounts.recovery_digest(account.id, one) for one in codes)
    changed = account.with_secret(pen.now_ms, pen.new_id(), totp=secret, recovery=digests)
    pen.change(changed, account.id, "second-factor-set")
    pen.put(StepUsed(account=account.id, step=step))
    sessions.carry(pen, seat.session, changed)


async def _change_password(doorman: Doorman, seat: Seat, given: NewPassword) -> None:
    await doorman.own_password(seat.account, given.old)
    who = seat.account.profile
    if given.new != given.again:
        raise Unfit("the two new passwords differ", "login.differ")
    if given.new == given.old:
        raise Unfit("the new password is the old one", "login.same")
    if weak := accounts.weakness(given.new, who.login, who.name):
        raise Unfit(f"this password is refused: {weak}", f"login.weak_{weak}")
    phc = await doorman.passwords.hash(given.new)

    def change(pen: Pen) -> None:
        account = _fresh(pen, seat)
        changed = account.with_secret(pen.now_ms, pen.new_id(), password=phc, must_change=False)
        pen.change(changed, account.id, "password-changed")
        sessions.carry(pen, seat.session, changed)

    await doorman.console.store.write(change)
    doorman.console.live.wake()


def _without_recovery(pen: Pen, account: Account, code: str) -> Account:
    used = accounts.recovery_digest(account.id, code)
    if used not in account.secret.recovery:
        raise WrongSecret
    left = tuple(one for one in account.secret.recovery if one != used)
    changed = account.with_secret(pen.now_ms, pen.new_id(), recovery=left)
    pen.change(changed, account.id, "recovery-code-used")
    return changed


def _named(sheets: Sheets, login: str) -> list[Account]:
    """More than one where two sides made the same login while the line was down."""
    return sheets.find_token(Account, "login", login)


def _fresh(pen: Pen, seat: Seat) -> Account:
    account = pen.get(Account, seat.account.id)
    if account is None or not account.active:
        raise NotSignedIn
    return account


def _seated(visit: Visit) -> Seat:
    if visit.seat is None:
        raise NotSignedIn
    return visit.seat


def _within(buckets: Buckets, key: str) -> None:
    if (wait := buckets.take(key)) > 0:
        raise TooOften(math.ceil(wait))


def _again(
    visit: Visit,
    template: str,
    error: WrongSecret | TooOften | Unfit,
    next_: str,
    **context: object,
) -> web.Response:
    if isinstance(error, TooOften):
        sentence = visit.t("login.too_often", seconds=error.retry_after)
    elif isinstance(error, Unfit) and error.word:
        sentence = visit.t(error.word)
    else:
        sentence = visit.t("login.wrong")
    return visit.page(template, status=error.http_status, wrong=sentence, next=next_, **context)


def _moved(location: str) -> web.Response:
    return web.Response(status=303, headers={"Location": location})


def with_cookie(console: Console, answer: web.Response, token: str) -> web.Response:
    """The answer, with which the browser gets its session."""
    answer.set_cookie(
        console.cookie, token, path="/", secure=True, httponly=True, samesite="Strict"
    )
    return answer
