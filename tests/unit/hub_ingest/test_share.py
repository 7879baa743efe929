"""Every box has one shard, and every shard has its share."""

import secrets
from collections import Counter
from pathlib import Path

import pytest

from lianzhen_hub.ingest.share import WHOLE, Share, shard_of
from lianzhen_hub.settings import Settings
from lianzhen_protocol.identity import NodeId, new_node_id
from lianzhen_runtime.config import load
from lianzhen_runtime.errors import ConfigError


def test_each_box_belongs_to_one_share_and_none_is_much_larger() -> None:
    nodes = [new_node_id(secrets.token_bytes(8)) for _ in range(4000)]
    for count in (2, 3, 8):
        shares = [Share(shard, count) for shard in range(count)]
        owners = [[share.shard for share in shares if share.owns(node)] for node in nodes]
        assert all(len(found) == 1 for found in owners)
        sizes = Counter(found[0] for found in owners)
        assert max(sizes.values()) < 1.3 * len(nodes) / count
    assert all(WHOLE.owns(node) for node in nodes)


def test_the_hash_is_part_of_the_contract_between_releases() -> None:
    """A release that hashed otherwise would give a box two consumers while programs change over."""
    assert [shard_of(NodeId(f"n{'0' * 11}{last}"), 8) for last in "0123"] == [3, 0, 1, 2]


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ("shards = 2\n", "needs PostgreSQL"),
        ('shards = 2\ndatabase = "sqlite:////tmp/x.db"\n', "SQLite has one writer"),
        ("shards = 0\n", "shards"),
    ],
)
def test_sqlite_takes_one_shard(tmp_path: Path, lines: str, why: str) -> None:
    file = tmp_path / "hub.toml"
    file.write_text(lines)
    with pytest.raises(ConfigError, match=why):
        load(file, Settings)


def test_postgresql_takes_several(tmp_path: Path) -> None:
    file = tmp_path / "hub.toml"
    file.write_text('shards = 4\ndatabase = "postgresql:///lianzhen"\n')
    assert load(file, Settings).shards == 4
