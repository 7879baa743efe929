"""Which ingest takes which box: by a hash of the node, so that all it says has one consumer.

Cumulative acknowledgements need that: two consumers of one stream would each know half of it. Pure.
"""

import hashlib
from typing import Final, NamedTuple

from lianzhen_protocol.identity import NodeId

_HASH_BYTES: Final = 8


class Share(NamedTuple):
    """Shard number ``shard``, from 0, of ``of``."""

    shard: int
    of: int

    @property
    def whole(self) -> bool:
        """Whether that is everybody."""
        return self.of == 1

    def owns(self, node: NodeId) -> bool:
        """Whether a box belongs to this share: to exactly one of all of them."""
        return self.whole or shard_of(node, self.of) == self.shard


WHOLE: Final = Share(0, 1)


def shard_of(node: NodeId, shards: int) -> int:
    """The shard that takes a box."""
    return int.from_bytes(hashlib.sha256(node.encode()).digest()[:_HASH_BYTES]) % shards
