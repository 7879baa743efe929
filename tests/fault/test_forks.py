"""Cards that were restored, cloned or moved: both histories are kept, and an admin is told."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import BoxProgram, Lab, wait_until

from support.lab_fixtures import (
    HubLedger,
    Pair,
    drained,
    enrolled_pair,
    item,
    notes,
    online,
    put_all,
    rows,
)


@pytest.fixture
def fresh(place: Lab, request: pytest.FixtureRequest) -> Iterator[Pair]:
    """A box of its own for each test, at one hub for all of them."""
    name = request.node.name.upper().replace("_", "-")[:30].rstrip("-")
    machine = place.folder / f"{name}.serial"
    machine.write_text("machine 1")
    pair = enrolled_pair(place, hub=_hub(place), name=name, hardware_id_file=str(machine))
    yield pair
    pair.ledger.close()
    pair.box.kill()


_hubs: dict[int, object] = {}


def saved(box: BoxProgram, name: str) -> Path:
    """A copy of a stopped box's card."""
    return Path(shutil.copytree(box.state, box.folder / name, ignore=_sockets))


def _sockets(_folder: str, names: list[str]) -> set[str]:
    return {name for name in names if name.endswith(".sock")}
