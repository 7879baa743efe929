"""One JSON text for one value (RFC 8785), so that a browser and Python sign the same bytes.

Restricted to what both write alike without care: objects, arrays, strings, integers within
±(2**53 - 1) and null. Fractions and booleans are refused, and so is text that is not Unicode
(a lone surrogate). Nothing is normalised: what was typed is what is signed.
"""

import json
from typing import Final

import msgspec

from .errors import NotCanonical

Value = str | int | None | list["Value"] | dict[str, "Value"]

SAFE_INTEGER: Final = (1 << 53) - 1
"""What a JavaScript number holds exactly."""


def canonical(value: Value) -> bytes:
    """The text of ``value`` as UTF-8. NotCanonical for what has none."""
    try:
        return _text(value).encode()
    except UnicodeEncodeError as error:
        raise NotCanonical("a text holds half a character (a lone surrogate)") from error
    except RecursionError as error:
        raise NotCanonical("a value is nested too deeply") from error


def parse(text: bytes) -> Value:
    """The value whose canonical text this is; NotCanonical for any other text of it."""
    try:
        value: Value = msgspec.json.decode(text)
    except (ValueError, RecursionError) as error:
        raise NotCanonical(f"not JSON: {error}") from error
    if canonical(value) != text:
        raise NotCanonical("JSON, but not in its canonical form (RFC 8785)")
    return value


def _text(value: Value) -> str:
    match value:
        case None:
            return "null"
        case str():
            return json.dumps(value, ensure_ascii=False)
        case int() if not isinstance(value, bool) and abs(value) <= SAFE_INTEGER:
            return str(value)
        case list():
            return f"[{','.join(_text(item) for item in value)}]"
        case dict():
            pairs = sorted(value.items(), key=lambda pair: pair[0].encode("utf-16-be"))
            return f"{{{','.join(f'{_text(name)}:{_text(item)}' for name, item in pairs)}}}"
        case _:
            raise NotCanonical(f"a {type(value).__name__} that has no canonical form here")
