"""Who is signed in, kept on the server: a restart of the program logs nobody out.

The browser holds 256 random bits; we hold their hash, so that a copy of the sheets opens no
session. A session ends by idleness, by age, by sign-out, and at once when its account is revoked
or its password or second factor was changed elsewhere.
"""

import secrets
from hashlib import sha256
from typing import ClassVar, Final, Literal, NamedTuple

import msgspec

from lianzhen_protocol.accounts import Account, Stamp
from lianzhen_protocol.sheets import Index, Sheet, Sheets

from .store import Pen

IDLE_MS: Final = 30 * 60_000
LIFE_MS: Final = 12 * 3_600_000
"""NIST SP 800-63B-4, AAL2: again after 30 minutes of nothing, or 12 hours."""

TOUCH_MS: Final = 60_000
"""How exactly idleness is measured: one write a minute at most for each session."""

Stage = Literal["second", "open"]
"""``second``: the password was right, the code is awaited."""


class Session(Sheet, frozen=True, kw_only=True):
    """One browser. ``id`` is the hash of what it holds."""

    SHEET: ClassVar[str] = "web-session"

    id: str
    account: str
    stage: Stage
    began_ms: int
    seen_ms: int
    secret_stamp: Stamp
    """The account's secret as it was: another one ends the session."""
    pending: str = ""
    """Secret of a second factor that is being set up."""

    def index(self) -> Index:
        return Index(self.id, self.account, self.stage, self.seen_ms)

    def over(self, now_ms: int) -> bool:
        """Whether its time has run out."""
        return now_ms > self.seen_ms + IDLE_MS or now_ms > self.began_ms + LIFE_MS


class Seat(NamedTuple):
    """A session and its account."""

    session: Session
    account: Account


def digest(token: str) -> str:
    """What is kept of a browser's token."""
    return sha256(token.encode()).hexdigest()


def seated(sheets: Sheets, token: str, now_ms: int) -> Seat | None:
    """Who holds this token now, if anybody."""
    session = sheets.get(Session, digest(token))
    if session is None or session.over(now_ms):
        return None
    account = sheets.get(Account, session.account)
    if account is None or not account.active or account.secret_stamp != session.secret_stamp:
        return None
    return Seat(session, account)


def begin(pen: Pen, account: Account, stage: Stage) -> str:
    """A new session; the token for the browser. Sessions that are over go on this occasion."""
    for old in pen.find(Session, limit=100):
        if old.over(pen.now_ms):
            pen.delete(Session, old.id)
    token = secrets.token_urlsafe(32)
    session = Session(
        id=digest(token),
        account=account.id,
        stage=stage,
        began_ms=pen.now_ms,
        seen_ms=pen.now_ms,
        secret_stamp=account.secret_stamp,
    )
    pen.put(session)
    return token


def touch(pen: Pen, session: Session) -> None:
    """It was used just now."""
    known = pen.get(Session, session.id)
    if known is not None:
        pen.put(msgspec.structs.replace(known, seen_ms=pen.now_ms))


def carry(pen: Pen, session: Session, account: Account) -> None:
    """Let this session outlive a change of its own account's secret."""
    pen.put(msgspec.structs.replace(session, secret_stamp=account.secret_stamp, pending=""))
