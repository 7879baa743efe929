"""A hub on PostgreSQL that is lost with its database, and restored from an older backup."""

from pathlib import Path

import pytest

from lab import Postgres
from support.lab_fixtures import HAS_POSTGRES
from support.restoring import lost_and_restored


@pytest.mark.skipif(not HAS_POSTGRES, reason="PostgreSQL is not installed")
@pytest.mark.timeout(300)
def test_what_a_backup_lacks_the_boxes_bring_again_on_postgresql(tmp_path: Path) -> None:
    postgres = Postgres().start()
    try:
        lost_and_restored(postgres, tmp_path)
    finally:
        postgres.remove()
