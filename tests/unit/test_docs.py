"""What a person may type, set or read is documented: an undocumented one fails here."""

import argparse
from pathlib import Path

import pytest

import lianzhen_edge.cli
import lianzhen_edge.settings
import lianzhen_hub.cli
import lianzhen_hub.settings
from lianzhen_edge.journal.states import ItemState
from lianzhen_protocol.marks import ForkReason

ROOT = Path(__file__).parents[2]
OPERATIONS = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")


def verbs(parser: argparse.ArgumentParser) -> list[str]:
    (found,) = [
        action for action in parser._actions if isinstance(action, argparse._SubParsersAction)
    ]
    return list(found.choices)


@pytest.mark.parametrize(
    ("program", "verb"),
    [("hub", verb) for verb in verbs(lianzhen_hub.cli.parser())]
    + [("edge", verb) for verb in verbs(lianzhen_edge.cli.parser())],
)
def test_every_verb_is_in_the_operations_manual(program: str, verb: str) -> None:
    start = OPERATIONS.index(f"| `lianzhen-{program}` |")
    table = OPERATIONS[start : OPERATIONS.index("\n\n", start)]
    assert f"`{verb}" in table


@pytest.mark.parametrize(
    "key",
    lianzhen_hub.settings.Settings.__struct_fields__
    + lianzhen_edge.settings.Settings.__struct_fields__,
)
def test_every_setting_is_in_the_operations_manual(key: str) -> None:
    assert f"`{key}`" in OPERATIONS


@pytest.mark.parametrize("reason", ForkReason)
def test_every_reason_of_a_fork_is_explained(reason: ForkReason) -> None:
    assert f"`{reason}`" in OPERATIONS


@pytest.mark.parametrize("state", ItemState)
def test_every_state_of_an_item_is_named(state: ItemState) -> None:
    assert f"`{state}`" in OPERATIONS


@pytest.mark.parametrize("readme", ["README.md", "README.zh.md"])
def test_every_file_that_a_readme_points_to_is_there(readme: str) -> None:
    text = (ROOT / readme).read_text(encoding="utf-8")
    links = [part.split(")")[0] for part in text.split("](")[1:]]
    missing = [link for link in links if "://" not in link and not (ROOT / link).exists()]
    assert missing == []
