"""How long the long tests are, and where their chance begins."""

import os
import secrets

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of ``./do soak``."""
    group = parser.getgroup("faults")
    group.addoption("--schedules", type=int, default=20, help="how many schedules of faults")
    group.addoption("--seconds", type=float, default=0, help="end them after so long; 0: never")
    group.addoption("--seed", type=int, default=None, help="the first seed; else LIANZHEN_SEED")


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """Where chance begins: said, or new."""
    said = request.config.getoption("--seed")
    found = os.environ.get("LIANZHEN_SEED") if said is None else said
    return secrets.randbelow(1 << 32) if found is None else int(found)
