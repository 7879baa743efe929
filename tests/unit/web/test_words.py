"""Every word that a page of either console says is there, in both languages; no page has a style
or a script of its own, which the policy would silently drop.
"""

import re
from pathlib import Path

import pytest
from jinja2 import Environment, FileSystemLoader

import lianzhen_edge.clinic
import lianzhen_hub.consoles
import lianzhen_runtime.web
from lianzhen_runtime.errors import ConfigError
from lianzhen_runtime.web.look import json_block, when, yuan
from lianzhen_runtime.web.words import LANGUAGES, Words

SHARED = Path(str(lianzhen_runtime.web.__file__)).parent
CLINIC = Path(str(lianzhen_edge.clinic.__file__)).parent
HUB = Path(str(lianzhen_hub.consoles.__file__)).parent
CONSOLES = {
    "clinic": Words([SHARED / "text", CLINIC / "text"]),
    "hub": Words([SHARED / "text", HUB / "text"]),
}
_KEY = re.compile(r"""\bt\(\s*['"]([a-z_]+\.[A-Za-z0-9_-]+)['"]\s*[,)]""")


def templates() -> list[tuple[str, Path]]:
    found = [(name, path) for name in CONSOLES for path in (SHARED / "templates").rglob("*.html")]
    found += [("clinic", path) for path in (CLINIC / "templates").rglob("*.html")]
    return found + [("hub", path) for path in (HUB / "templates").rglob("*.html")]


PAGES = templates()
NAMES = [f"{name}-{path.parent.name}-{path.stem}" for name, path in PAGES]


@pytest.mark.parametrize(("console", "path"), PAGES, ids=NAMES)
def test_a_template_compiles_and_its_words_are_there(console: str, path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    Environment(autoescape=True, loader=FileSystemLoader(path.parent)).parse(text)
    missing = [key for key in _KEY.findall(text) if not CONSOLES[console].knows(key)]
    assert missing == []
    html = re.sub(r"\{%.*?%\}|\{\{.*?\}\}|\{#.*?#\}", "", text, flags=re.DOTALL)
    assert not re.search(r"\sstyle\s*=|<style|\son[a-z]+\s*=\s*['\"]", html), (
        "the policy forbids it"
    )
    scripts = re.findall(r"<script(?![^>]*(src=|application/json))", html)
    assert scripts == [], "the policy forbids it"
    chinese = re.findall(r"[\u4e00-\u9fff]+", re.sub(r"\{#.*?#\}", "", text, flags=re.DOTALL))
    assert chinese == [], "a word that is not in the catalogue"


def test_both_consoles_say_all_in_both_languages() -> None:
    for words in CONSOLES.values():
        for language in LANGUAGES:
            assert words.say(language, "site.welcome", name="{x}").count("{x}") == 1


def test_a_catalogue_that_lacks_a_word_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "area.json"
    file.write_text('{"zh-CN": {"a": "甲", "b": "乙"}, "en": {"a": "A"}}', encoding="utf-8")
    with pytest.raises(ConfigError, match="'b'"):
        Words([tmp_path])
    file.write_text('{"zh-CN": {}}', encoding="utf-8")
    with pytest.raises(ConfigError, match="speaks"):
        Words([tmp_path])
    with pytest.raises(KeyError):
        CONSOLES["hub"].say("en", "site.no_such_word")


def test_money_and_time_as_people_read_them() -> None:
    assert [yuan(fen) for fen in (0, 5, 12345, -150)] == ["0.00", "0.05", "123.45", "-1.50"]
    assert when(1_795_535_252_925) == "2026-11-24 23:47:32"


def test_data_for_an_island_cannot_end_its_element() -> None:
    block = str(json_block({"name": "</script><b>&\u2028"}, "x"))
    assert block.count("<") == 2
    assert "\\u003c/script\\u003e" in block
