"""How pages are made: one Jinja environment a console, strict and escaping."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Final

import jinja2
import msgspec
from markupsafe import Markup

from lianzhen_runtime.ids import new_id

from .assets import Assets
from .words import LANGUAGES, Words

HERE: Final = Path(__file__).parent
CHINA: Final = timezone(timedelta(hours=8), "CST")
"""One time zone in all of China, without summer time."""


class Look:
    """Templates and words of a console: ours, and those of the folders that it adds."""

    def __init__(self, templates: Sequence[Path], texts: Sequence[Path], title: str) -> None:
        self.words = Words([HERE / "text", *texts])
        self._environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader([*templates, HERE / "templates"]),
            undefined=jinja2.StrictUndefined,
            autoescape=True,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.globals |= {
            "assets": Assets(),
            "languages": LANGUAGES,
            "console": title,
            "knows": self.words.knows,
            "fresh_id": fresh_id,
        }
        self._environment.filters |= {
            "when": when,
            "iso": iso,
            "day": day,
            "yuan": yuan,
            "size": size,
            "json_block": json_block,
        }

    def frame(self, language: str, path: str) -> dict[str, object]:
        """What the layout needs, for nobody in particular."""
        return {
            "language": language,
            "path": path,
            "place": "",
            "menu": [],
            "strip": "",
            "actor": None,
            "t": partial(self.words.say, language),
            "area_words": partial(self.words.area, language),
        }

    def render(self, template: str, context: dict[str, object]) -> str:
        """A page's HTML. Whatever is not there is an error, not an empty place."""
        return self._environment.get_template(template).render(context)


def fresh_id() -> str:
    """An id for a form to carry, so that sending it twice is one act."""
    return new_id(int(time.time() * 1000)).hex()


def when(ms: int) -> str:
    """A time in China, to the second."""
    return datetime.fromtimestamp(ms / 1000, CHINA).strftime("%Y-%m-%d %H:%M:%S")


def iso(ms: int) -> str:
    """A time for machines."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")


def day(ms: int) -> str:
    """A day in China."""
    return datetime.fromtimestamp(ms / 1000, CHINA).strftime("%Y-%m-%d")


def yuan(fen: int) -> str:
    """Integer fen as yuan."""
    sign, fen = ("-", -fen) if fen < 0 else ("", fen)
    return f"{sign}{fen // 100}.{fen % 100:02d}"


def size(count: float) -> str:
    """Bytes for people, three digits at most."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def json_block(value: object, name: str) -> Markup:
    """Data for an island, as an inert block: it cannot end its own element, nor be run."""
    text = msgspec.json.encode(value).decode()
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    block = Markup('<script type="application/json" id="{}">{}</script>')
    return block.format(name, Markup(text))  # noqa: S704 - escaped above
