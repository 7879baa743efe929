"""Every refusal and every reason to wait is said in words, in both languages."""

import json
import re
from pathlib import Path

import pytest

from lianzhen_protocol.joins import Reason
from lianzhen_protocol.people import Sex

ROOT = Path(__file__).parents[3]
WORDS = ROOT / "edge/lianzhen_edge/clinic/text/people.json"
SOURCES = [
    *(ROOT / f"protocol/lianzhen_protocol/{name}.py" for name in
      ("gb11643", "people", "bindings", "joins")),
    *(ROOT / "edge/lianzhen_edge/patients").glob("*.py"),
    ROOT / "edge/lianzhen_edge/clinic/people.py",
]  # fmt: skip


def codes() -> set[str]:
    """Every code that a PatientError is given in the sources."""
    text = "".join(path.read_text(encoding="utf-8") for path in SOURCES)
    pairs = re.findall(r'^        \("([a-z-]+-taken)", by_', text, flags=re.MULTILINE)
    found = {*re.findall(r'code="([a-z0-9-]+)"', text), *pairs}
    return found - {"record-misplaced"}  # between programs only


def test_there_are_codes() -> None:
    assert len(codes()) > 40
    assert {"id-number-check", "confirm-second", "id-number-taken", "binding-joined"} <= codes()


@pytest.mark.parametrize("language", ["zh-CN", "en"])
def test_everything_has_words(language: str) -> None:
    words = json.loads(WORDS.read_text(encoding="utf-8"))[language]
    wanted = {f"error_{code}" for code in codes()}
    wanted |= {f"reason_{reason}" for reason in Reason} | {f"sex_{sex}" for sex in Sex}
    assert sorted(wanted - set(words)) == []
