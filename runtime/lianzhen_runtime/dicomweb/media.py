"""What a client can take (RFC 9110, 12.5.1; PS3.18, 8.7): media types with quality and parameters,
and which of what we have is meant by them."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from lianzhen_protocol.dicomset import EXPLICIT
from lianzhen_runtime.errors import LianzhenError

DICOM, DICOM_JSON, OCTETS = (
    "application/dicom",
    "application/dicom+json",
    "application/octet-stream",
)
JSON: Final = "application/json"
MULTIPART: Final = "multipart/related"
STORED: Final = "*"
"""As a transfer syntax: whichever it is stored in."""

JPEG_LS: Final = "1.2.840.10008.1.2.4.80"
MAX_HEADER: Final = 8192

_TYPES: Final = {
    "image/jpeg": ("1.2.840.10008.1.2.4.70", "50", "51", "57", "70"),
    "image/jls": (JPEG_LS, "80", "81"),
    "image/jp2": ("1.2.840.10008.1.2.4.90", "90", "91"),
    "image/jphc": ("1.2.840.10008.1.2.4.201", "201", "202", "203"),
    "video/mpeg2": ("1.2.840.10008.1.2.4.100", "100", "101"),
    "video/mp4": ("1.2.840.10008.1.2.4.102", *map(str, range(102, 107))),
    "image/dicom-rle": ("1.2.840.10008.1.2.5",),
}
"""Media type -> the transfer syntax that it means without a parameter, and the last figures of all
that it may have (PS3.18, table 8.7.3-5)."""

_WORD: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER: Final = re.compile(rf'\s*;\s*(?:({_WORD})\s*=\s*(?:([^\s;,"]+)|"((?:[^"\\]|\\.)*)"))?')
_TYPE: Final = re.compile(rf"\s*({_WORD})/({_WORD})")
_ESCAPED: Final = re.compile(r"\\(.)")


class NotAcceptable(LianzhenError):
    """Nothing that we have is what the client takes; the text says what there is."""

    code = "not-acceptable"
    http_status = 406


class HeaderUnreadable(LianzhenError):
    """A header that is not what it should be."""

    code = "header-malformed"
    http_status = 400


class Media(NamedTuple):
    """A media type; names of parameters are in lower case."""

    type: str
    parameters: Mapping[str, str] = {}

    @property
    def quality(self) -> float:
        """0 to 1; 0 is a refusal."""
        try:
            return min(max(float(self.parameters.get("q", "1")), 0.0), 1.0)
        except ValueError:
            return 0.0

    @property
    def syntax(self) -> str:
        """The transfer syntax, or "" where none is named."""
        return self.parameters.get("transfer-syntax", "")


class Wanted(NamedTuple):
    """One way to answer."""

    multipart: bool
    type: str
    """Of a part, or of the whole: may end in ``/*``."""
    syntax: str
    """Transfer syntax; "" where none is named."""

    def meant(self, stored: str) -> str:
        """The transfer syntax that is asked for of an image that is kept as ``stored``."""
        if self.syntax not in ("", STORED):
            return self.syntax
        if self.type in _TYPES and type_of(stored) != self.type:
            return _TYPES[self.type][0]
        is_open = self.syntax == STORED or self.type in _TYPES or self.type.endswith("/*")
        return stored if is_open else EXPLICIT


def parse(text: str) -> list[Media]:
    """A list of media types, as Accept has it; HeaderUnreadable."""
    if len(text) > MAX_HEADER:
        raise HeaderUnreadable("a list of media types without end")
    return list(_parsed(text))


def _parsed(text: str) -> Iterator[Media]:
    at = 0
    while at < len(text):
        if text[at] in ", \t":
            at += 1
            continue
        found = _TYPE.match(text, at)
        if found is None:
            raise HeaderUnreadable("this is no media type; one is type/subtype; parameter=value")
        at, parameters = found.end(), dict[str, str]()
        while (parameter := _PARAMETER.match(text, at)) is not None:
            name, plain, quoted = parameter.groups()
            if name is not None:
                value = plain if quoted is None else _ESCAPED.sub(r"\1", quoted)
                parameters.setdefault(name.lower(), value)
            at = parameter.end()
        rest = text[at:].lstrip()
        if rest and not rest.startswith(","):
            raise HeaderUnreadable("a media type goes on in no way that one does")
        yield Media(f"{found[1]}/{found[2]}".lower(), parameters)


def accepted(header: str) -> list[Media]:
    """What is taken, the best first; what is refused (q=0) is left out. No header takes all."""
    found = [one for one in parse(header) if one.quality > 0] if header.strip() else [Media("*/*")]
    return sorted(found, key=lambda one: -one.quality)


def choose(header: str, offers: Sequence[str]) -> str:
    """The one of ``offers`` that is taken most gladly; NotAcceptable."""
    for media in accepted(header):
        for offer in offers:
            if covers(media.type, offer):
                return offer
    raise NotAcceptable(f"this is to be had as {', '.join(offers)}")


def covers(pattern: str, type_: str) -> bool:
    """Whether ``pattern`` takes ``type_``: the same, ``*/*``, or ``image/*``."""
    return pattern in (type_, "*/*") or (
        pattern.endswith("/*") and type_.startswith(pattern.removesuffix("*"))
    )


def wanted(header: str, default: str) -> Iterator[Wanted]:
    """What a client asks for where there are transfer syntaxes to choose from, the best first.

    ``default`` is the type of a multipart that names none. Whoever takes anything gets a multipart.
    """
    for media in accepted(header):
        if media.type == MULTIPART:
            yield Wanted(True, media.parameters.get("type", default).lower(), media.syntax)
        elif media.type in ("*/*", "multipart/*"):
            yield Wanted(True, "*/*", media.syntax)
        else:
            yield Wanted(False, media.type, media.syntax)


def type_of(syntax: str) -> str:
    """The media type of a frame in a transfer syntax."""
    last = syntax.rpartition(".")[2]
    for type_, (first, *rest) in _TYPES.items():
        if syntax == first or (last in rest and syntax.startswith("1.2.840.10008.1.2.4.")):
            return type_
    return OCTETS


def fits(type_: str, syntax: str) -> bool:
    """Whether frames in ``syntax`` may go as ``type_``; as octets all may, as clients ask."""
    return type_ == OCTETS or covers(type_, type_of(syntax))
