"""The hub's fleet and broker in this process, for the tests that look inside."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.fleet import Live, Parts, brokered, parts


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Parts]:
    async with parts(tmp_path / "hub") as made:
        yield made


@pytest.fixture
async def live(hub: Parts) -> AsyncIterator[Live]:
    async with brokered(hub) as made:
        yield made
