"""A hub's desk, with an empty database for every test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from unit.consultations.desk import Desk


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with Desk(tmp_path) as made:
        yield made
