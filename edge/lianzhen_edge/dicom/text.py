"""Text of a data set, from its raw bytes, when what it declares is missing or wrong.

The ladder: the declared set if it decodes, then strict UTF-8, then GB18030. ISO_IR 100 with high
bytes is not trusted, as that is what devices declare who never heard of Chinese. pydicom is not
asked: it splits GBK at a trail byte 0x5C and leaves the escapes of ISO 2022 IR 58 in the text.
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
    "ISO_IR 192": "utf-8",
    "ISO_IR 58": "gb18030",  # GB 2312 in G1 once its escape is taken out
    "ISO_IR 87": "iso2022-jp",
    "ISO_IR 149": "euc-kr",
    "GBK": "gb18030",  # a superset, and 4-byte characters do turn up under this name
    "GB18030": "gb18030",
}
_LATIN: Final = "ISO_IR 100"
_ESCAPE = re.compile(rb"\x1b(?:\$\)[AC]|[()\-.][A-Z]|\$[@B])")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class Decoded(NamedTuple):
    """Text, and which rung of the ladder it comes from."""

    text: str
    source: str


def decode(raw: bytes, charset: bytes = b"") -> Decoded:
    """A value as text without its padding; ``charset`` is the raw (0008,0005)."""
    names = [name.strip() for name in charset.decode("ascii", "replace").strip("\0 ").split("\\")]
    sets = [name.replace("ISO 2022 IR", "ISO_IR") for name in names]
    chosen = next((name for name in reversed(sets) if name), "")
    rungs = [(_CODECS.get(chosen), DECLARED), ("utf-8", UTF_8), ("gb18030", GB18030)]
    if chosen == _LATIN and not raw.isascii():
        rungs.append(rungs.pop(0))
    for codec, source in rungs:
        if codec is None:
            continue
        value = raw if codec == "iso2022-jp" else _ESCAPE.sub(b"", raw)
        try:
            return Decoded(_clean(value.decode(codec)), source)
        except UnicodeDecodeError:
            continue
    return Decoded(_clean(raw.decode("ascii", "replace")), UNREADABLE)


def _clean(text: str) -> str:
    return _CONTROL.sub("", text).strip()
