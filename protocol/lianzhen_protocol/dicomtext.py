"""Text of a DICOM data set, from its raw bytes, when what it declares is missing or wrong.

The ladder: the declared set if it decodes, then strict UTF-8, then GB18030. Three things that do
decode are not believed: ISO_IR 100 with high bytes, which is what devices declare who never heard
of Chinese; UTF-8 under the name of GBK, which reads as rare hanzi; and two hanzi of GBK that happen
to be letters in UTF-8. Values are split after they are decoded, never before: 116 hanzi of GBK have
a backslash as their second byte, 116 more a caret.

Sets and escapes: DICOM PS3.3, C.12.1.1.2; PS3.5, 6.1.2.5 and annexes H, I, J, K.
"""

import re
from typing import Final, NamedTuple

DECLARED, UTF_8, GB18030, UNREADABLE = "declared", "utf-8", "gb18030", "unreadable"

_CODECS: Final = {
    "": "ascii",
    "ISO_IR 6": "ascii",
    "ISO_IR 13": "shift_jis",
    "ISO_IR 100": "latin-1",
    "ISO_IR 101": "iso8859-2",
    "ISO_IR 109": "iso8859-3",
    "ISO_IR 110": "iso8859-4",
    "ISO_IR 126": "iso8859-7",
    "ISO_IR 127": "iso8859-6",
    "ISO_IR 138": "iso8859-8",
    "ISO_IR 144": "iso8859-5",
    "ISO_IR 148": "iso8859-9",
    "ISO_IR 166": "tis-620",
    "ISO_IR 203": "iso8859-15",
    "ISO_IR 192": "utf-8",
    "ISO_IR 58": "gb2312",
    "ISO_IR 87": "iso2022-jp",
    "ISO_IR 149": "euc-kr",
    "ISO_IR 159": "iso2022-jp-1",
    "GBK": "gb18030",  # a superset, and 4-byte characters do turn up under this name
    "GB18030": "gb18030",
}
_LATIN: Final = "ISO_IR 100"
_ESCAPED: Final = {
    b"(B": "ascii",
    b"(J": "shift_jis",
    b")I": "shift_jis",
    b"-A": "latin-1",
    b"-B": "iso8859-2",
    b"-C": "iso8859-3",
    b"-D": "iso8859-4",
    b"-F": "iso8859-7",
    b"-G": "iso8859-6",
    b"-H": "iso8859-8",
    b"-L": "iso8859-5",
    b"-M": "iso8859-9",
    b"-T": "tis-620",
    b"-b": "iso8859-15",
    b"$)A": "gb2312",
    b"$)C": "euc-kr",
    b"$B": "iso2022-jp",
    b"$@": "iso2022-jp",
    b"$(D": "iso2022-jp-1",
}
_JAPANESE: Final = frozenset({"iso2022-jp", "iso2022-jp-1"})
_ESCAPE: Final = re.compile(rb"\x1b(\$\([A-D]|\$\)[A-C]|\$[@AB]|[()\-.][A-Za-z])")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_MIXED: Final = re.compile(r"[A-Za-z][^\x00-\x7f]|[^\x00-\x7f][A-Za-z]")


class Decoded(NamedTuple):
    """Text, and which rung of the ladder it comes from."""

    text: str
    source: str


def decode(raw: bytes, charset: bytes = b"") -> Decoded:
    """A value as text without its padding; ``charset`` is the raw (0008,0005)."""
    found = _ladder(raw, charset)
    return Decoded(_CONTROL.sub("", found.text).strip(), found.source)


def _ladder(raw: bytes, charset: bytes) -> Decoded:
    sets = _declared(charset)
    declared = _by_declaration(raw, sets)
    if raw.isascii() and declared is not None:
        return Decoded(declared, DECLARED)
    plain = _ESCAPE.sub(b"", raw)
    utf_8, gb = _read(plain, "utf-8"), _read(plain, "gb18030")
    if utf_8 is not None and declared != utf_8 and _is_two_hanzi(utf_8, gb):
        utf_8 = None
    if _is_mislabelled(sets, utf_8, gb):
        declared = None
    for text, source in ((declared, DECLARED), (utf_8, UTF_8), (gb, GB18030)):
        if text is not None:
            return Decoded(text, source)
    return Decoded(raw.decode("ascii", "replace"), UNREADABLE)


def _declared(charset: bytes) -> list[str]:
    """Defined terms, the first one also where it is empty; those with code extensions as without,
    as a device that names one means the set."""
    names = charset.decode("ascii", "replace").strip("\0 ").split("\\")
    return [name.strip("\0 ").replace("ISO 2022 IR", "ISO_IR") for name in names]


def _by_declaration(raw: bytes, sets: list[str]) -> str | None:
    """By the sets that are declared, and no other way; None if that fails."""
    codec = _CODECS.get(sets[0])
    if codec is None:
        return None
    if _ESCAPE.search(raw) is None:
        return _read(raw, "ascii" if codec in _JAPANESE else codec)
    allowed = {_CODECS[name] for name in sets if name in _CODECS} | {"ascii"}
    return _by_escapes(raw, codec, allowed) if len(sets) > 1 or codec == "gb2312" else None


def _by_escapes(raw: bytes, first: str, allowed: set[str]) -> str | None:
    """Code extensions (PS3.5, 6.1.2.5.3): each stretch by the set that was invoked before it.

    That a delimiter resets them is left out: a device that forgets to escape again after one has
    nothing else to say, and one that does not forget is read the same.
    """
    parts = _ESCAPE.split(raw)
    text = [_read(parts[0], "ascii" if first in _JAPANESE else first)]
    for escape, stretch in zip(parts[1::2], parts[2::2], strict=True):
        codec = _ESCAPED.get(escape)
        if codec is None or codec not in allowed:
            return None
        text.append(_stretch(escape, stretch, codec))
    return None if None in text else "".join(filter(None, text))


def _stretch(escape: bytes, stretch: bytes, codec: str) -> str | None:
    if codec not in _JAPANESE:
        return _read(stretch, codec)
    return _read(b"\x1b" + escape + stretch + b"\x1b(B", codec)


def _read(raw: bytes, codec: str) -> str | None:
    try:
        return raw.decode(codec)
    except UnicodeDecodeError:
        return None


# -- which of two readings is meant


def _is_two_hanzi(utf_8: str, gb: str | None) -> bool:
    """Whether what is letters in UTF-8 is rather hanzi, as "ë^ƽ" is 毛^平, and "Müller" is not
    M眉ller."""
    letters = all(ord(character) < 0x800 for character in utf_8)
    return letters and gb is not None and not _rare(gb) and not _MIXED.search(gb)


def _is_mislabelled(sets: list[str], utf_8: str | None, gb: str | None) -> bool:
    if sets == [_LATIN]:
        return not _is_latin(utf_8, gb)
    return sets[0] in ("GBK", "GB18030") and _is_worse(gb, utf_8)


def _is_latin(utf_8: str | None, gb: str | None) -> bool:
    """Whether ISO_IR 100 is believed, as for "Müller", where a hanzi would stand within letters."""
    return utf_8 is None and (gb is None or (_rare(gb) > 0 and _MIXED.search(gb) is not None))


def _is_worse(gb: str | None, utf_8: str | None) -> bool:
    """Whether GBK as declared has more rare hanzi than the same bytes as UTF-8."""
    return gb is not None and utf_8 is not None and _rare(gb) > _rare(utf_8)


def _rare(text: str) -> int:
    """Characters that GB 2312 does not have."""
    return text.encode("gb2312", "replace").count(b"?") - text.count("?")
