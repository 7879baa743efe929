"""Problem details over HTTP (RFC 9457): every error a code that is stable and a plain sentence."""

import math

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from lianzhen_protocol.errors import ProtocolError

from .errors import LianzhenError
from .log import Log

_log = Log("lianzhen.http")
_encoder = msgspec.json.Encoder()


def problem(
    status: int, code: str, detail: str, headers: dict[str, str] | None = None
) -> web.Response:
    """An application/problem+json answer."""
    body = _encoder.encode({"status": status, "code": code, "detail": detail})
    return web.Response(
        status=status, body=body, content_type="application/problem+json", headers=headers
    )


def json_answer(value: object, status: int = 200) -> web.Response:
    """A JSON answer from anything msgspec encodes."""
    return web.Response(status=status, body=_encoder.encode(value), content_type="application/json")


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every error as a problem; an unexpected one says nothing of its inside."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        code = error.reason.lower().replace(" ", "-")
        return problem(error.status, code, error.text or error.reason)
    except (LianzhenError, ProtocolError) as error:
        after = getattr(error, "retry_after", None)
        headers = None if after is None else {"Retry-After": str(math.ceil(after))}
        return problem(getattr(error, "http_status", 400), error.code, str(error), headers)
    except msgspec.ValidationError as error:
        return problem(422, "request-invalid", str(error))
    except msgspec.DecodeError as error:
        return problem(400, "request-malformed", str(error))
    except Exception:  # noqa: BLE001 - one request's bug must not end the program; it is logged.
        _log.error("request failed", exc_info=True, method=request.method)
        return problem(500, "internal", "an error of ours; it is in the log")
