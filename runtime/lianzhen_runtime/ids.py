"""Ids of what is made here and now."""

import secrets

from lianzhen_protocol.identity import RecordId, uuid7


def new_id(now_ms: int) -> RecordId:
    """An id that no other place makes, and that sorts by time."""
    return uuid7(now_ms, secrets.token_bytes(10))
