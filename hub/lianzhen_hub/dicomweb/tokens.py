"""Access tokens for DICOMweb clients: short-lived, for one person, and no more than they may do.

The client holds 256 random bits, we hold their hash. A token opens DICOMweb and nothing else, and
ends by its age, when it is revoked, and with its account or that account's password.
"""

import secrets
from hashlib import sha256
from typing import Annotated, ClassVar, Final

import msgspec

from lianzhen_hub.page import HubPage
from lianzhen_protocol.accounts import Account, Stamp
from lianzhen_protocol.sheets import Index, Sheet, Sheets
from lianzhen_runtime.errors import LianzhenError
from lianzhen_runtime.web.sessions import Seat, Session

MOST_HOURS: Final = 24
_MOST: Final = 20
"""Of one person at a time."""
_PREFIX: Final = "lzdw_"

Hours = Annotated[int, msgspec.Meta(ge=1, le=MOST_HOURS)]


class NoSuchToken(LianzhenError):
    """There is none with this id."""

    code = "token-unknown"
    http_status = 404


class TooManyTokens(LianzhenError):
    """This person has as many as one may have."""

    code = "too-many-tokens"
    http_status = 409


class WebToken(Sheet, frozen=True, kw_only=True):
    """One token. ``id`` is the hash of what the client holds."""

    SHEET: ClassVar[str] = "dicomweb-token"

    id: str
    account: str
    made_ms: int
    ends_ms: int
    secret_stamp: Stamp

    def index(self) -> Index:
        return Index(self.id, self.account, "", self.ends_ms)


class TokenRow(msgspec.Struct, frozen=True, kw_only=True):
    """A token as lists show it: ``id`` names it, and opens nothing."""

    id: str
    login: str
    made_ms: int
    ends_ms: int


def _digest(token: str) -> str:
    return sha256(token.encode()).hexdigest()


def issue(page: HubPage, account: Account, hours: int, by: str) -> str:
    """A new token, said once. Those that are over go on this occasion."""
    for old in page.find(WebToken, limit=1000):
        if old.ends_ms <= page.now_ms:
            page.delete(WebToken, old.id)
    if len(page.find(WebToken, owner=account.id)) >= _MOST:
        raise TooManyTokens(f"one person has at most {_MOST} tokens; revoke one first")
    token = _PREFIX + secrets.token_urlsafe(32)
    page.put(
        WebToken(
            id=_digest(token),
            account=account.id,
            made_ms=page.now_ms,
            ends_ms=page.now_ms + hours * 3_600_000,
            secret_stamp=account.secret_stamp,
        )
    )
    page.audit(by, "create", f"{WebToken.SHEET}/{_digest(token)}")
    return token


def revoke(page: HubPage, start: str, by: str, account: str = "") -> None:
    """End the one whose id begins with ``start``; of one account if that is given."""
    found = [one for one in page.find(WebToken, owner=account or None) if one.id.startswith(start)]
    if len(found) != 1 or len(start) < 8:
        raise NoSuchToken("there is no token with this id; a list shows those that there are")
    page.delete(WebToken, found[0].id)
    page.audit(by, "remove", f"{WebToken.SHEET}/{found[0].id}")


def listed(sheets: Sheets, now_ms: int, account: str | None = None) -> list[TokenRow]:
    """Tokens that are good now, of all or of one account."""
    rows = []
    for one in sheets.find(WebToken, owner=account):
        holder = sheets.get(Account, one.account)
        if holder is not None and one.ends_ms > now_ms:
            rows.append(
                TokenRow(
                    id=one.id[:16],
                    login=holder.profile.login,
                    made_ms=one.made_ms,
                    ends_ms=one.ends_ms,
                )
            )
    return rows


def seated(sheets: Sheets, token: str, now_ms: int) -> Seat | None:
    """Who holds this token now, if anybody."""
    found = sheets.get(WebToken, _digest(token)) if token.startswith(_PREFIX) else None
    if found is None or found.ends_ms <= now_ms:
        return None
    account = sheets.get(Account, found.account)
    if account is None or not account.active or account.secret_stamp != found.secret_stamp:
        return None
    session = Session(
        id=found.id,
        account=account.id,
        stage="open",
        began_ms=found.made_ms,
        seen_ms=now_ms,
        secret_stamp=found.secret_stamp,
    )
    return Seat(session, account)
