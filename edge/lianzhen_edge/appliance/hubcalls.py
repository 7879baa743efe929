"""One HTTPS call to the hub, and what its failure means: try again, or give up.

::

    HubUnreachable (OSError)            hub-unreachable    no answer that makes sense: try again
    └── HubBusy                         hub-busy           5xx, 429: again after ``retry_after``
    EnrolmentRefused (LianzhenError)    the hub's code     final; a sentence for the person there
    └── PinMismatch                     pin-mismatch       not the hub that printed the claim
"""

import secrets
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import aiohttp
import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from lianzhen_protocol.errors import SignatureInvalid
from lianzhen_protocol.identity import HUB_NAME
from lianzhen_protocol.signing import TimeAnswer, verify_time
from lianzhen_runtime import tls
from lianzhen_runtime.errors import LianzhenError
from lianzhen_runtime.log import Log
from lianzhen_runtime.signer import SignerTrust

from .clock import TrustedClock

API: Final = "/enrol/v1"
TIMEOUT_S: Final = 30.0
MAX_ANSWER_BYTES: Final = 64 << 10
_Answer = TypeVar("_Answer")
_log = Log("lianzhen.enrolment")


class HubUnreachable(OSError):
    """No answer that makes sense; another try may get one."""

    code = "hub-unreachable"


class HubBusy(HubUnreachable):
    """The hub asks to come back; ``retry_after`` in seconds, 0 if it did not say when."""

    code = "hub-busy"

    def __init__(self, message: str, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class EnrolmentRefused(LianzhenError):
    """The hub's last word, with its code and sentence."""

    code = "enrolment-refused"


class PinMismatch(EnrolmentRefused):
    """Whoever answers at the claim's address is not the hub that printed the claim."""

    code = "pin-mismatch"

    def __init__(self) -> None:
        super().__init__(
            "the hub at this address is not the one that printed the claim; "
            "compare the claim with the leaflet and check the network"
        )


class _Problem(msgspec.Struct):
    code: str
    detail: str


class Reply(NamedTuple):
    """An answer below 400."""

    status: int
    body: bytes
    retry_after: float

    def read(self, kind: type[_Answer]) -> _Answer:
        """The body decoded; HubUnreachable if something else than the hub answered."""
        try:
            return msgspec.json.decode(self.body, type=kind)
        except msgspec.DecodeError as error:
            raise HubUnreachable(f"an answer that is not the hub's: {error}") from error


@dataclass(frozen=True)
class Hub:
    """A hub that we know by its CA (PEM); ``identity`` is (certificate, key) for mTLS.

    Paths are below ``API``.
    """

    url: str
    ca: str
    clock: TrustedClock
    identity: tuple[Path, Path] | None = None

    async def get(self, path: str) -> Reply:
        """GET; the hub's certificate is checked by our clock, which the hub may first set."""
        return await self._call("GET", path, None)

    async def post(self, path: str, body: msgspec.Struct | None = None) -> Reply:
        """POST a struct as JSON; a certificate that is "not valid now" is a doubt of our clock."""
        return await self._call("POST", path, body)

    async def learn_time(self) -> None:
        """Ask the hub for the time: its chain is checked, its dates only against its answer."""
        nonce = secrets.token_hex(16)
        context = tls.client_context(self.ca, None, HUB_NAME)
        reply = await call(f"{self.url}{API}/time?nonce={nonce}", context)
        answer = reply.read(TimeAnswer)
        trust = SignerTrust(self.ca)
        try:
            der = _der(answer.certificate)
            trust.learn(der, None)
            now_ms = verify_time(trust.key, nonce, answer)
            trust.learn(der, now_ms / 1000)
        except (SignatureInvalid, ValueError) as error:
            raise HubUnreachable(f"a time that the hub did not sign: {error}") from error
        _log.info("clock set by the hub", offset_ms=now_ms - self.clock.now_ms)
        self.clock.learn(now_ms)

    async def _call(self, method: str, path: str, body: msgspec.Struct | None) -> Reply:
        try:
            return await self._checked(method, path, body)
        except HubUnreachable as error:
            if not isinstance(error.__cause__, tls.NotValidNow):
                raise
        await self.learn_time()
        return await self._checked(method, path, body)

    async def _checked(self, method: str, path: str, body: msgspec.Struct | None) -> Reply:
        context = tls.client_context(self.ca, self.clock.now, HUB_NAME, self.identity)
        return await call(f"{self.url}{API}{path}", context, method, body)


async def call(
    url: str,
    context: ssl.SSLContext | bool,
    method: str = "GET",
    body: msgspec.Struct | None = None,
) -> Reply:
    """One request, or an error of this module's tree. ``context`` False trusts anybody."""
    payload = None if body is None else msgspec.json.encode(body)
    connector = aiohttp.TCPConnector(ssl=context)
    limit = aiohttp.ClientTimeout(total=TIMEOUT_S)
    try:
        async with (
            aiohttp.ClientSession(connector=connector, timeout=limit) as session,
            session.request(method, url, data=payload, allow_redirects=False) as answer,
        ):
            content = await _read(answer)
    except aiohttp.ClientConnectorCertificateError as error:
        # The TLS error itself becomes the cause, so that a caller can tell a doubt of the clock.
        raise HubUnreachable(f"the hub's certificate: {error}") from error.__cause__
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise HubUnreachable(f"the hub does not answer: {error}") from error
    if answer.status < 300:
        return Reply(answer.status, content, _retry_after(answer))
    raise _failure(answer, content)


async def _read(answer: aiohttp.ClientResponse) -> bytes:
    content = bytearray()
    async for part in answer.content.iter_any():
        content += part
        if len(content) > MAX_ANSWER_BYTES:
            raise HubUnreachable("an answer that is too large to be the hub's")
    return bytes(content)


def _failure(answer: aiohttp.ClientResponse, content: bytes) -> Exception:
    if answer.status >= 500 or answer.status == 429:
        return HubBusy(f"the hub is busy (HTTP {answer.status})", _retry_after(answer))
    try:
        problem = msgspec.json.decode(content, type=_Problem)
    except msgspec.DecodeError:
        # A proxy or a login page of the network, not the hub.
        return HubUnreachable(f"something else than the hub answers (HTTP {answer.status})")
    return EnrolmentRefused(problem.detail, code=problem.code)


def _retry_after(answer: aiohttp.ClientResponse) -> float:
    text = answer.headers.get("Retry-After", "")
    return float(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0.0


def _der(pem: str) -> bytes:
    certificate: Any = x509.load_pem_x509_certificate(pem.encode())
    encoded: bytes = certificate.public_bytes(serialization.Encoding.DER)
    return encoded
