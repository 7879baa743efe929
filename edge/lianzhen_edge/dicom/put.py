"""One content to one path of the hub, in chunks that are answered one by one (docs/imaging.md)."""

import asyncio
import hashlib
import time
from typing import Final

import aiohttp
import msgspec

from lianzhen_runtime.flow import Flow

from .pace import Pace

_TRIES: Final = 3
"""So often a chunk that the hub did not take goes again at once."""


class HubAway(OSError):
    """No answer that makes sense, or one that asks for patience; another try may do.

    ``reached``: somebody was there, who may be glad of some peace.
    """

    code = "hub-away"

    def __init__(self, text: str, *, reached: bool = True) -> None:
        super().__init__(text)
        self.reached = reached


class NotYet(Exception):
    """The hub does not know this image yet: its manifest is on its way."""


class Refused(Exception):
    """The hub will not have it: ``code`` is its reason."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class _Conflict(Exception):
    """The hub's part ends elsewhere, or what it got is not what was sent."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class _Problem(msgspec.Struct):
    code: str = "unknown"


_PATIENCE: Final = frozenset({401, 403, 408, 412, 423, 425, 429})
"""Of the line or the moment, not of the image: a certificate that is being renewed."""


class _Reach:
    """SHA-256 of a content from its start to wherever one is."""

    def __init__(self, content: bytes) -> None:
        self._content = memoryview(content)
        self._end, self._hash = 0, hashlib.sha256()

    async def to(self, end: int) -> str:
        """In hexadecimal; in a thread, as it may be a large one."""
        return await asyncio.to_thread(self._to, end)

    def _to(self, end: int) -> str:
        if end < self._end:
            self._end, self._hash = 0, hashlib.sha256()
        self._hash.update(self._content[self._end : end])
        self._end = end
        return self._hash.hexdigest()


class Put:
    """Puts contents, by ``pace``, over the connections of ``session``."""

    def __init__(
        self, session: aiohttp.ClientSession, pace: Pace, flow: Flow | None = None
    ) -> None:
        self._session = session
        self._pace = pace
        self._flow = flow or Flow()

    async def content(
        self, path: str, content: bytes, digest: str | None = None, *, is_new: bool = False
    ) -> None:
        """Return when the hub says that it has all of it. NotYet, HubAway or Refused otherwise.

        ``digest`` is what its SHA-256 should be. What ``is_new`` and fits into a chunk goes at
        once: to ask what there is of it would take as long.
        """
        reach, length, tries = _Reach(content), len(content), 0
        headers = {
            "Upload-Length": str(length),
            "Upload-Digest": digest or await _Reach(content).to(length),
        }
        at_once = is_new and 0 < length <= self._pace.chunk
        offset = 0 if at_once else await self._ask(path, headers)
        while True:
            chunk = content[offset : offset + self._pace.chunk]
            reached = await reach.to(offset + len(chunk))
            if offset + len(chunk) == length and reached != headers["Upload-Digest"]:
                raise Refused("image-differs")  # from its manifest, and at this end
            sent = headers | {"Upload-Offset": str(offset), "Upload-Reached": reached}
            try:
                offset, tries = await self._send(path, sent, chunk), 0
            except _Conflict as conflict:
                tries += 1
                if tries == _TRIES:
                    raise Refused(conflict.code) from conflict
                offset = await self._ask(path, headers)
            if tries == 0 and offset >= length:
                return

    async def _ask(self, path: str, headers: dict[str, str]) -> int:
        began = time.monotonic()
        offset = await self._call("HEAD", path, headers)
        self._pace.asked(time.monotonic() - began)
        return offset

    async def _send(self, path: str, headers: dict[str, str], chunk: bytes) -> int:
        began = time.monotonic()
        offset = await self._call("PATCH", path, headers, chunk)
        self._pace.took(len(chunk), time.monotonic() - began)
        self._flow.passed(int(str(offset) == headers["Upload-Length"]), len(chunk))
        return offset

    async def _call(
        self, method: str, path: str, headers: dict[str, str], chunk: bytes | None = None
    ) -> int:
        try:
            async with self._session.request(
                method, path, headers=headers, data=chunk, allow_redirects=False
            ) as answer:
                body = await answer.read()
                if answer.status < 300:
                    return int(answer.headers["Upload-Offset"])
        except TimeoutError as error:
            self._pace.slow()
            raise HubAway("the hub does not answer in time") from error
        except (aiohttp.ClientError, OSError, ValueError, KeyError) as error:
            reached = not isinstance(error, aiohttp.ClientConnectorError)
            what = f"the hub does not answer: {type(error).__name__}"
            raise HubAway(what, reached=reached) from error
        if answer.status == 404:
            raise NotYet
        if answer.status >= 500 or answer.status in _PATIENCE:
            raise HubAway(f"the hub asks for patience (HTTP {answer.status})")
        if method == "HEAD" and answer.status == 422:  # it has no body
            raise Refused("upload-differs")
        try:
            code = msgspec.json.decode(body, type=_Problem).code
        except msgspec.DecodeError as error:
            raise HubAway(f"something else than the hub answers ({answer.status})") from error
        raise _Conflict(code) if answer.status == 409 else Refused(code)
