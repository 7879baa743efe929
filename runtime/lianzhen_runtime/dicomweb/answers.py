"""Bodies of answers: named by what they are made of, so that a client that has one is told so, and
one whose line was cut goes on where it was (RFC 9110, 13 and 14)."""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from aiohttp import web

from . import multipart

PRIVATE: Final = "private, max-age=600"
"""Images do not change. So long one may be shown again without asking who looks."""

ASK: Final = "private, no-cache"
"""What grows: to be kept, and to be asked for again each time."""


class Piece(NamedTuple):
    """One part of an answer."""

    type: str
    location: str
    content: bytes


def tag_of(*parts: object) -> str:
    """An entity tag of all that an answer is made of."""
    text = "\0".join(map(str, parts)).encode()
    return hashlib.sha256(text).hexdigest()[:40]


def known(request: web.Request, tag: str) -> bool:
    """Whether the client has it."""
    said = request.headers.get("If-None-Match", "")
    return said.strip() == "*" or f'"{tag}"' in said


def not_modified(tag: str, cache: str = PRIVATE) -> web.Response:
    """The client has it."""
    return web.Response(status=304, headers=headers_of(tag, cache))


def headers_of(tag: str, cache: str = PRIVATE) -> dict[str, str]:
    """What every answer says of itself."""
    return {"ETag": f'"{tag}"', "Cache-Control": cache, "Vary": "Accept"}


def together(tag: str, type_: str, pieces: Iterable[Piece]) -> tuple[str, bytes]:
    """Content-Type and body of a multipart. Its boundary is made of its tag: the same again is the
    same bytes, and what is in a file cannot name its own hash."""
    boundary, body = f"lz-{tag}", bytearray()
    for piece in pieces:
        body += multipart.opening(boundary, piece.type, piece.location, len(piece.content))
        body += piece.content + multipart.CLOSING
    return multipart.content_type(boundary, type_), bytes(body + multipart.last(boundary))


def answer(
    request: web.Request,
    tag: str,
    type_: str,
    body: bytes,
    *,
    cache: str = PRIVATE,
    more: Mapping[str, str] | None = None,
) -> web.Response:
    """A body, or the range of it that is asked for."""
    headers = headers_of(tag, cache) | {"Accept-Ranges": "bytes", "Content-Type": type_}
    headers |= more or {}
    wanted = _range(request, tag, len(body))
    if wanted is None:
        return web.Response(body=body, headers=headers)
    begin, end = wanted
    if begin >= end:
        headers["Content-Range"] = f"bytes */{len(body)}"
        return web.Response(status=416, headers=headers)
    headers["Content-Range"] = f"bytes {begin}-{end - 1}/{len(body)}"
    return web.Response(status=206, body=body[begin:end], headers=headers)


def _range(request: web.Request, tag: str, length: int) -> tuple[int, int] | None:
    """Begin and end; empty if there is nothing there; None if all of it is wanted."""
    if "Range" not in request.headers or request.headers.get("If-Range", f'"{tag}"') != f'"{tag}"':
        return None
    try:
        found = request.http_range
    except ValueError:
        return None  # several ranges at once, or another unit: RFC 9110 lets us send all
    if found.start is None:
        return None
    begin, end, _ = found.indices(length)
    return begin, end
