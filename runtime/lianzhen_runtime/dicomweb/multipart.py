"""multipart/related (RFC 2046, 5.1; RFC 2387): writing the answers, and reading what is stored.

The reader takes the bytes as they come and gives each part whole, so that no more than one part
is in memory. Boundary, heads and parts are bounded; what is before the first and after the last
boundary is nothing to anybody.
"""

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from lianzhen_runtime.errors import LianzhenError

from .media import MULTIPART, Media, parse

MAX_BOUNDARY: Final = 70
MAX_HEAD: Final = 4096
_END: Final = b"\r\n\r\n"


class MultipartBroken(LianzhenError):
    """Not a multipart message, or one that ends in the middle; the text says what is wrong."""

    code = "multipart-malformed"
    http_status = 400


class PartTooLarge(LianzhenError):
    """One part has more bytes than are taken."""

    code = "part-too-large"
    http_status = 413


class Part(NamedTuple):
    """One part; names of headers are in lower case."""

    headers: Mapping[str, str]
    content: bytes


# -- writing


def content_type(boundary: str, type_: str) -> str:
    """What the head of the whole says."""
    return f'{MULTIPART}; type="{type_}"; boundary="{boundary}"'


def opening(boundary: str, type_: str, location: str, length: int) -> bytes:
    """What goes before a part's content."""
    return (
        f"--{boundary}\r\nContent-Type: {type_}\r\nContent-Length: {length}\r\n"
        f"Content-Location: {location}\r\n\r\n"
    ).encode()


CLOSING: Final = b"\r\n"
"""What goes after a part's content."""


def last(boundary: str) -> bytes:
    """What goes after all parts."""
    return f"--{boundary}--\r\n".encode()


# -- reading


def boundary_of(header: str, type_: str) -> bytes:
    """The boundary of a Content-Type; MultipartBroken if that is no multipart of such parts."""
    media: Media = next(iter(parse(header)), Media(""))
    inner = media.parameters.get("type", type_).lower()
    if media.type != MULTIPART or inner != type_:
        raise MultipartBroken(f'this takes {MULTIPART}; type="{type_}"')
    boundary = media.parameters.get("boundary", "").encode()
    if not 0 < len(boundary) <= MAX_BOUNDARY:
        raise MultipartBroken(f"a boundary has 1 to {MAX_BOUNDARY} characters")
    return boundary


class Reader:
    """``feed`` it, and take the parts that are whole; ``finish`` when nothing more comes."""

    def __init__(self, boundary: bytes, most: int) -> None:
        self._mark = b"\r\n--" + boundary
        self._most = most
        self._left = bytearray(b"\r\n")  # as the first boundary may be at the very beginning
        self._looked = 0
        self._head: Mapping[str, str] | None = None
        self._begun = False
        self._ended = False

    def feed(self, content: bytes) -> Iterator[Part]:
        """Parts that end within ``content``; MultipartBroken or PartTooLarge."""
        self._left += content
        while not self._ended:
            if self._begun and self._head is None and not self._take_head():
                return
            found = self._left.find(self._mark, self._looked)
            at = len(self._left) if found < 0 else found
            if self._head is not None and at > self._most:
                raise PartTooLarge(f"one part has more than {self._most} bytes")
            if found < 0 or len(self._left) < found + len(self._mark) + 2:
                self._look_on(found)
                return
            part = self._end_part(found)
            if part is not None:
                yield part
        self._left.clear()

    def finish(self) -> None:
        """MultipartBroken if the last boundary has not come."""
        if not self._ended:
            raise MultipartBroken("the message ends before its last boundary")

    def _look_on(self, found: int) -> None:
        """Nothing is looked through twice, and a preamble is not kept."""
        self._looked = max(0, len(self._left) - len(self._mark)) if found < 0 else found
        if not self._begun and found < 0:
            del self._left[: self._looked]
            self._looked = 0

    def _end_part(self, found: int) -> Part | None:
        after = found + len(self._mark)
        content = bytes(self._left[:found])
        self._ended = self._left[after : after + 2] == b"--"
        del self._left[:after]
        self._looked = 0
        head, self._head, begun, self._begun = self._head, None, self._begun, True
        return Part(head, content) if begun and head is not None else None

    def _take_head(self) -> bool:
        """Up to the empty line; False if that has not come yet."""
        end = self._left.find(_END, 0, MAX_HEAD + len(_END))
        if end < 0:
            if len(self._left) > MAX_HEAD:
                raise MultipartBroken("a part's head without end")
            return False
        rest, *lines = bytes(self._left[:end]).split(b"\r\n")
        if rest.strip(b" \t"):
            raise MultipartBroken("a boundary with something behind it")
        self._head = dict(_header(line) for line in lines)
        del self._left[: end + len(_END)]
        return True


def _header(line: bytes) -> tuple[str, str]:
    name, colon, value = line.decode("latin-1").partition(":")
    if not colon or not name.strip():
        raise MultipartBroken("a part's head has a line that is no header")
    return name.strip().lower(), value.strip()
