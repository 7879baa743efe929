"""Enrolment over HTTPS, with EST's verbs (RFC 7030) and JSON bodies (docs/protocol.md, 10).

::

    GET  /enrol/v1/cacerts          PEM of the authority; a box checks it against its claim's pin
    POST /enrol/v1/nonce            Nonce
    POST /enrol/v1/simpleenroll     EnrolRequest -> Issued
    POST /enrol/v1/simplereenroll   RekeyRequest -> Issued, over mTLS
    POST /enrol/v1/reapprove        ReapprovalRequest -> Issued, or 202 with Retry-After
    GET  /enrol/v1/time?nonce=      TimeAnswer: the time, signed for this question

Errors are problem details by ``runtime.problems``. Addresses are those of the connection: behind
a proxy that ends TLS there would be no client certificate either.
"""

import re
import time
from typing import Final, TypeVar

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from lianzhen_protocol.claims import EnrolRequest, ReapprovalRequest, RekeyRequest
from lianzhen_protocol.signing import TimeAnswer, sign_time
from lianzhen_runtime.problems import json_answer, problem, problems
from lianzhen_runtime.tls import Clock

from .authority import Authority, Signer
from .errors import FleetError, HubBusy, RequestTooLarge, TooManyRequests
from .fleet import Fleet
from .limits import RateLimit, Room

PREFIX: Final = "/enrol/v1"
MAX_BODY_BYTES: Final = 16 << 10
POLL_SECONDS: Final = 15
_NONCE: Final = re.compile(r"[0-9A-Za-z_-]{16,128}")
_Body = TypeVar("_Body")


class Enrolment:
    """The handlers. What comes without a client certificate is rated by its address."""

    def __init__(
        self,
        fleet: Fleet,
        authority: Authority,
        signer: Signer,
        *,
        limit: RateLimit | None = None,
        room: Room | None = None,
        clock: Clock = time.time,
        poll_s: int = POLL_SECONDS,
    ) -> None:
        self._fleet = fleet
        self._authority = authority
        self._signer = signer
        self._limit = limit or RateLimit(time.monotonic)
        self._room = room or Room()
        self._clock = clock
        self._poll_s = poll_s

    def application(self) -> web.Application:
        """The routes without their prefix, for ``app.add_subapp(PREFIX, ...)``."""
        app = web.Application(middlewares=[problems, self._rated])
        app.add_routes(
            [
                web.get("/cacerts", self._cacerts),
                web.get("/time", self._time),
                web.post("/nonce", self._nonce),
                web.post("/simpleenroll", self._enrol),
                web.post("/simplereenroll", self._rekey),
                web.post("/reapprove", self._reapprove),
            ]
        )
        return app

    @web.middleware
    async def _rated(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            if peer_certificate(request) is None:
                self._limit.take(request.remote or "")
            with self._room.entered():
                return await handler(request)
        except (TooManyRequests, HubBusy) as error:
            after = {"Retry-After": str(error.retry_after)}
            return problem(error.http_status, error.code, str(error), after)

    async def _cacerts(self, _request: web.Request) -> web.Response:
        return web.Response(text=self._authority.ca_pem, content_type="application/x-pem-file")

    async def _time(self, request: web.Request) -> web.Response:
        nonce = request.query.get("nonce", "")
        if not _NONCE.fullmatch(nonce):
            raise FleetError("the question needs a nonce of 16 to 128 letters and digits")
        signed = sign_time(self._signer.key, nonce, int(self._clock() * 1000))
        fields = msgspec.structs.asdict(signed) | {"certificate": self._signer.pem}
        return json_answer(TimeAnswer(**fields))

    async def _nonce(self, _request: web.Request) -> web.Response:
        return json_answer(self._fleet.nonce())

    async def _enrol(self, request: web.Request) -> web.Response:
        return json_answer(await self._fleet.enrol(await _body(request, EnrolRequest)))

    async def _rekey(self, request: web.Request) -> web.Response:
        wanted = await _body(request, RekeyRequest)
        return json_answer(await self._fleet.rekey(peer_certificate(request), wanted))

    async def _reapprove(self, request: web.Request) -> web.Response:
        issued = await self._fleet.reapprove(await _body(request, ReapprovalRequest))
        if issued is not None:
            return json_answer(issued)
        return web.Response(status=202, headers={"Retry-After": str(self._poll_s)})


def peer_certificate(request: web.Request) -> bytes | None:
    """The client's certificate (DER), already checked against our authority by TLS."""
    transport = request.transport
    tls = None if transport is None else transport.get_extra_info("ssl_object")
    certificate: bytes | None = None if tls is None else tls.getpeercert(binary_form=True)
    return certificate or None


async def _body(request: web.Request, kind: type[_Body]) -> _Body:
    content = bytearray()
    async for part in request.content.iter_any():
        content += part
        if len(content) > MAX_BODY_BYTES:
            raise RequestTooLarge(MAX_BODY_BYTES)
    return msgspec.json.decode(content, type=kind)
