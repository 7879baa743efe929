"""What the hub says of itself, to people and to probes."""

import msgspec

from .ingest.status import IngestStatus


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """What a probe compares: identity and version, not just that something answers."""

    ok: bool
    program: str
    version: str
    pin: str
    database: bool = True
    """False while a start waits for its server."""
    broker: bool
    listening: bool


class HubStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that ``lianzhen-hub status`` shows."""

    health: Health
    backend: str
    url: str
    sessions: int
    ingest: IngestStatus
    crl_age_s: float
    broker_pid: int | None
    image_store: bool = True
    """Whether the store of images answered when it was asked last."""
    safe: str = "commit"
    backup_ms: int = 0
    """When the last backup was verified; 0: never."""
    strays: dict[str, int] = {}
    """Rows of each growing table that lie in no month (PostgreSQL)."""
