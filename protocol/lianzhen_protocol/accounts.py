"""Who may do what: roles, accounts, and what both sides make of a changed account.

An account has one *home*: a box's node id, or "" for the hub. It is one self-contained record
each time it changes, and merges as two registers: the profile (who) and the secret (how they
prove it), each with a stamp of its own, so that a new password at the clinic and a new role at
the hub, made while the line was down, both survive. Revocation always wins and is for good.
"""

import base64
import hashlib
import hmac
import unicodedata
from enum import StrEnum
from typing import ClassVar, Final, NamedTuple

import msgspec

from .errors import RecordError
from .identity import base32
from .records import Body
from .sheets import Index, Sheet, Sheets

PEOPLE: Final = "record.people"
"""The stream of accounts, up and down."""


class Role(StrEnum):
    """What a person is here; somebody may be more than one."""

    NURSE = "nurse"
    DOCTOR = "doctor"
    EXPERT = "expert"
    PHARMACIST = "pharmacist"
    PATIENT = "patient"
    ADMIN = "admin"


CLINICAL: Final = frozenset({Role.NURSE, Role.DOCTOR})
STAFF: Final = frozenset(Role) - {Role.PATIENT}
TWO_FACTORS: Final = frozenset({Role.ADMIN, Role.EXPERT})
"""Who must show a second factor."""

CLINIC_ROLES: Final = frozenset(Role) - {Role.EXPERT}
HUB_ROLES: Final = frozenset({Role.EXPERT, Role.ADMIN, Role.PATIENT})

ACTIVE: Final = "active"
REVOKED: Final = "revoked"


class Actor(msgspec.Struct, frozen=True, kw_only=True):
    """Who is doing something: an account, as a page or an audit row needs to know it."""

    id: str
    login: str
    name: str
    roles: frozenset[Role]
    node: str = ""
    """Home of the account; "" is the hub."""
    patient: str = ""
    """For a patient: their patient id."""

    def may(self, *roles: Role) -> bool:
        """Whether they have one of ``roles``."""
        return not self.roles.isdisjoint(roles)


class Stamp(NamedTuple):
    """When a register was last written; the record's id decides between equal times."""

    ms: int
    record: str

    def next(self, now_ms: int, record: str) -> "Stamp":
        """A later stamp, also where this machine's clock is behind the last writer's."""
        return Stamp(max(now_ms, self.ms + 1), record)


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """Who it is. ``patient`` is the patient id of a patient's account, else ""."""

    login: str
    name: str
    roles: tuple[Role, ...]
    status: str = ACTIVE
    patient: str = ""


class Secret(msgspec.Struct, frozen=True, kw_only=True):
    """How they prove it. Nothing here can be read back into a password."""

    password: str
    """Argon2id, as a PHC string."""
    must_change: bool = False
    """Somebody else chose the password: it opens the page where it is changed, and no other."""
    totp: str = ""
    """Base-32 secret of the second factor (RFC 6238); "" while there is none."""
    recovery: tuple[str, ...] = ()
    """Digests of the recovery codes that are left."""


class Account(Sheet, frozen=True, kw_only=True):
    """One person's account, as both sides keep it."""

    SHEET: ClassVar[str] = "account"

    id: str
    node: str
    profile: Profile
    secret: Secret
    profile_stamp: Stamp
    secret_stamp: Stamp

    def index(self) -> Index:
        at_ms = max(self.profile_stamp.ms, self.secret_stamp.ms)
        return Index(self.id, self.node, self.profile.status, at_ms)

    def tokens(self) -> tuple[tuple[str, str], ...]:
        found = (("login", self.profile.login), ("patient", self.profile.patient))
        return tuple(pair for pair in found if pair[1])

    @property
    def active(self) -> bool:
        """Not revoked."""
        return self.profile.status == ACTIVE

    @property
    def needs_second_factor(self) -> bool:
        """Whether a role of theirs asks for one."""
        return not TWO_FACTORS.isdisjoint(self.profile.roles)

    @property
    def actor(self) -> Actor:
        """The account as pages and audit rows know it."""
        who = self.profile
        return Actor(
            id=self.id,
            login=who.login,
            name=who.name,
            roles=frozenset(who.roles),
            node=self.node,
            patient=who.patient,
        )

    def with_profile(self, now_ms: int, record: str, **changes: object) -> "Account":
        """The profile written anew by record ``record``."""
        return msgspec.structs.replace(
            self,
            profile=msgspec.structs.replace(self.profile, **changes),
            profile_stamp=self.profile_stamp.next(now_ms, record),
        )

    def with_secret(self, now_ms: int, record: str, **changes: object) -> "Account":
        """The secret written anew by record ``record``."""
        return msgspec.structs.replace(
            self,
            secret=msgspec.structs.replace(self.secret, **changes),
            secret_stamp=self.secret_stamp.next(now_ms, record),
        )


class AccountChanged(Body, frozen=True):
    """An account as it stands after a change; ``by`` is the account that made it, or ""."""

    account: Account
    by: str = ""


KINDS: Final[dict[str, dict[int, type[Body]]]] = {"account.changed": {1: AccountChanged}}


def merged(known: Account | None, news: Account) -> Account:
    """What both know: each register by its later stamp, and revoked if either says so."""
    if known is None:
        return news
    who = max(known, news, key=lambda account: account.profile_stamp)
    proof = max(known, news, key=lambda account: account.secret_stamp)
    revoked = REVOKED in (known.profile.status, news.profile.status)
    profile = msgspec.structs.replace(who.profile, status=REVOKED) if revoked else who.profile
    return msgspec.structs.replace(
        known,
        profile=profile,
        secret=proof.secret,
        profile_stamp=who.profile_stamp,
        secret_stamp=proof.secret_stamp,
    )


def settle(sheets: Sheets, news: Account, node: str | None = None) -> Account:
    """Take a changed account in. With ``node``, the box that says so: it rules its own people only.

    RecordError (code ``account-foreign`` or ``account-role``) for what that box may not say.
    """
    known = sheets.get(Account, news.id)
    if node is not None and (news.node != node or (known is not None and known.node != node)):
        raise RecordError("a box changes the accounts of its own clinic", code="account-foreign")
    allowed = CLINIC_ROLES if news.node else HUB_ROLES
    if not allowed.issuperset(news.profile.roles):
        raise RecordError(
            f"an account of this home may be {', '.join(sorted(allowed))}", code="account-role"
        )
    found = merged(known, news)
    sheets.put(found)
    return found


# -- logins and passwords

MIN_PASSWORD: Final = 10
_MAX_PASSWORD: Final = 128
_LOGIN_SIGNS: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789.-_")
# The commonest of ten signs and more (NIST SP 800-63B 3.1.1.2 asks for such a list).
_WORST = """
    1234567890 12345678910 0123456789 0987654321 1111111111 0000000000 qwertyuiop 1q2w3e4r5t
    password12 password123 passw0rd123 administrator changeme123 letmein123 iloveyou123
    woaini1314 woaini520 asdfghjkl1 1qaz2wsx3edc qazwsxedcrfv a123456789 abc1234567
    lianzhen123 hospital123 welcome1234
"""
_COMMON: Final = frozenset(_WORST.split())


def login_name(text: str) -> str:
    """``text`` as a login: 2 to 32 of a-z, 0-9, dot, hyphen, underscore; ValueError otherwise."""
    login = unicodedata.normalize("NFKC", text).strip().lower()
    if not 2 <= len(login) <= 32 or not _LOGIN_SIGNS.issuperset(login):
        raise ValueError("a login has 2 to 32 of a-z, 0-9, dot, hyphen and underscore")
    return login


def password_text(text: str) -> str:
    """A password in the one form that is hashed (NFKC, as input methods differ)."""
    return unicodedata.normalize("NFKC", text)


def weakness(password: str, login: str, name: str) -> str:
    """Why a password is refused: short, long, common, personal; "" if it is good.

    Length and a list instead of kinds of signs (NIST SP 800-63B-4, 3.1.1).
    """
    text = password_text(password)
    folded = text.casefold()
    if len(text) < MIN_PASSWORD:
        return "short"
    if len(text) > _MAX_PASSWORD:
        return "long"
    if folded in _COMMON or len(set(folded)) < 4:
        return "common"
    if any(part and part.casefold() in folded for part in (login, name)):
        return "personal"
    return ""


def one_time_password(random: bytes) -> str:
    """A password for somebody else to change, from 10 random bytes; easy to read aloud."""
    digits = base32(random, 16)
    return "-".join(digits[at : at + 4] for at in range(0, 16, 4))


# -- second factor (RFC 6238: HMAC-SHA-1, 6 digits, 30 seconds, as every authenticator app reads)

TOTP_BYTES: Final = 20
RECOVERY_CODES: Final = 8
_STEP_MS: Final = 30_000
_SLACK_STEPS: Final = 1


def totp_secret(random: bytes) -> str:
    """A secret from ``TOTP_BYTES`` random bytes, in the base 32 that authenticator apps take."""
    if len(random) != TOTP_BYTES:
        raise ValueError(f"a secret is made of {TOTP_BYTES} random bytes")
    return base64.b32encode(random).decode()


def totp_code(secret: str, step: int) -> str:
    """The code of a time step (RFC 4226, 5.3)."""
    mac = hmac.digest(base64.b32decode(secret), step.to_bytes(8), "sha1")
    at = mac[-1] & 15
    number = int.from_bytes(mac[at : at + 4]) & 0x7FFFFFFF
    return f"{number % 1_000_000:06d}"


def totp_step(secret: str, code: str, now_ms: int, after: int = 0) -> int | None:
    """The time step that ``code`` is right for, one step of slack each way; None if it is wrong.

    A code works once: only a step later than ``after``, the one used last, counts (RFC 6238, 5.2).
    """
    typed = "".join(code.split())
    now = now_ms // _STEP_MS
    for step in range(now - _SLACK_STEPS, now + _SLACK_STEPS + 1):
        if hmac.compare_digest(totp_code(secret, step).encode(), typed.encode()) and step > after:
            return step
    return None


def recovery_code(random: bytes) -> str:
    """One recovery code from 10 random bytes."""
    return one_time_password(random)


def recovery_digest(account: str, code: str) -> str:
    """What is kept of a recovery code; it has 80 random bits, so a plain hash is enough."""
    typed = "".join(sign for sign in code.lower() if sign.isalnum())
    typed = typed.translate(str.maketrans("oil", "011"))
    return hashlib.sha256(f"lz recovery|{account}|{typed}".encode()).hexdigest()
