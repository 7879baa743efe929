"""What an ingest says of itself: counters since its start."""

from collections import Counter
from collections.abc import Iterable

import msgspec


class IngestStatus(msgspec.Struct, kw_only=True):
    """Counters since the start, for metrics."""

    records: int = 0
    frames: int = 0
    transactions: int = 0
    dropped_frames: int = 0
    applied: int = 0
    quarantined: int = 0
    held: int = 0
    """Records that wait in quarantine now."""
    queued_bytes: int = 0
    turned: Counter[str] = msgspec.field(default_factory=Counter)


def total(found: Iterable[IngestStatus]) -> IngestStatus:
    """The sum of several."""
    whole = IngestStatus()
    for each in found:
        for name in IngestStatus.__struct_fields__:
            setattr(whole, name, getattr(whole, name) + getattr(each, name))
    return whole
