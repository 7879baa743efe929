"""RFC 8785 as far as opinions use it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lianzhen_protocol.canonical import SAFE_INTEGER, Value, canonical, parse
from lianzhen_protocol.errors import NotCanonical

VECTORS: Any = json.loads(
    (Path(__file__).parents[2] / "data/vectors/opinion-v1.json").read_text(encoding="utf-8")
)
texts = st.text(st.characters(exclude_categories=["Cs"]))
values: st.SearchStrategy[Value] = st.recursive(
    st.none() | texts | st.integers(-SAFE_INTEGER, SAFE_INTEGER),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize("case", VECTORS["canonical"], ids=lambda case: str(case["json"])[:20])
def test_vectors(case: dict[str, str]) -> None:
    text = canonical(json.loads(case["json"]))
    assert text.hex() == case["hex"]
    assert parse(text) == json.loads(case["json"])


@given(values)
def test_a_value_has_one_text_and_a_text_its_value(value: Value) -> None:
    text = canonical(value)
    assert parse(text) == value
    assert json.loads(text) == value


@pytest.mark.parametrize("value", [1.5, True, SAFE_INTEGER + 1, b"x", {"a": float("nan")}])
def test_what_has_no_text_is_refused(value: Any) -> None:
    with pytest.raises(NotCanonical):
        canonical(value)


def test_half_a_character_is_refused() -> None:
    with pytest.raises(NotCanonical, match="surrogate"):
        canonical("\ud842")


def test_a_bottomless_value_is_refused() -> None:
    deep: Value = []
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(NotCanonical, match="deep"):
        canonical(deep)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[1, 2]",
        b'{"b":1,"a":2}',
        b'{"a":1,"a":1}',
        b'"\\u00e9"',
        b"1.0",
        b"-0",
        b"\xff",
    ],
)
def test_any_other_text_is_refused(text: bytes) -> None:
    with pytest.raises(NotCanonical):
        parse(text)
