"""The hub's configuration file, ``/etc/lianzhen/hub.toml``."""

import re
import socket
import time
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from lianzhen_runtime.config import Section

OWN_BROKER: Final = "own"
DEFAULT_FILE = Path("/etc/lianzhen/hub.toml")

LEAST_DAYS = 183
"""Six months: Cybersecurity Law of the PRC, article 21 (3), for logs (not reviewed by a lawyer)."""

_BUCKET = re.compile(r"s3://[a-z0-9.-]{3,63}(/.*)?")

Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]


class Settings(Section, frozen=True):
    """Every key has a default: an empty file is a hub for its own network."""

    state: str = "/var/lib/lianzhen-hub"
    """Folder of CA, keys, broker and (by default) database."""

    names: tuple[str, ...] = ()
    """DNS names and addresses of this hub; the first one is printed in claims."""

    listen: str = "0.0.0.0"  # noqa: S104 - boxes come from everywhere; each shows a certificate
    """Address that the HTTPS server and the broker listen on."""

    https_port: Port = 8443
    mqtt_port: Port = 8883

    broker: str = OWN_BROKER
    """``own``: a mosquitto that the hub runs. Or where another broker is that several hubs or
    machines share, ``mqtts://host:port,host:port``; boxes reach it at ``mqtt_port`` of ``names``.
    """

    broker_auth_port: Port = 8462
    """Loopback port where another broker asks who may do what; not opened for our own."""

    console_port: Port = 8444
    """Console of experts, admins and patients, HTTPS; no client certificates here."""

    console_certificate: str | None = None
    console_key: str | None = None
    """Certificate chain and key (PEM) of the hub's public name; without them the hub's own."""

    status_port: Port = 8461
    """Loopback port of /health and /metrics; 0 takes any free one."""

    database: str | None = None
    """``postgresql://...``; without it, SQLite in the state folder."""

    images: str | None = None
    """``s3://bucket/prefix``; without it, the folder ``images`` in the state folder."""

    images_endpoint: str | None = None
    """URL of an S3-compatible store; without it, AWS's own."""

    images_region: str = "us-east-1"

    shards: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1
    """Ingest processes, each for its share of the boxes; more than one needs PostgreSQL."""

    safe: Literal["commit", "backup"] = "commit"
    """When a record counts as safe, so that its box may delete it. ``commit``: this machine's
    disk is all the safety there is, and the operator says so by leaving this setting as it is.
    ``backup``: when it is in a backup that was verified; until then its box keeps it.
    """

    policies: str | None = None
    """Folder of ``*.toml`` with rules of settlement beside those that ship."""

    accept_seconds: Annotated[int, msgspec.Meta(ge=1, le=86_400)] = 300
    """How long an expert who is asked has to accept; then the next one is asked."""

    retention_log_days: Annotated[int, msgspec.Meta(ge=0, le=36_500)] = 0
    """After how long runs of the log leave that are kept elsewhere, or are nobody's record, and lie
    in a backup; 0: never. Half a year at the least, as for logs of a network.
    """

    retention_notices_days: Annotated[int, msgspec.Meta(ge=0, le=36_500)] = 0
    """After how long notices leave; 0: never, and half a year at the least."""

    metrics_boxes: Annotated[int, msgspec.Meta(ge=0, le=100_000)] = 200
    """Boxes that get metrics of their own, those that need a look first; the rest is summed."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"

    def __post_init__(self) -> None:
        if bool(self.console_certificate) != bool(self.console_key):
            raise ValueError("console_certificate and console_key belong together")
        if self.images is not None and not _BUCKET.fullmatch(self.images):
            raise ValueError("images is s3://bucket/prefix, or not there at all")
        if self.shards > 1 and not (self.database or "").startswith("postgresql"):
            raise ValueError(
                f'shards = {self.shards} needs PostgreSQL (database = "postgresql://..."): '
                "SQLite has one writer, so it takes one shard"
            )
        for days in (self.retention_log_days, self.retention_notices_days):
            if 0 < days < LEAST_DAYS:
                raise ValueError(f"retention is 0 (for good) or at least {LEAST_DAYS} days")
        if self.broker != OWN_BROKER:
            from .broker.external import addresses  # its libraries are for a hub that runs

            addresses(self.broker)
            if self.shards > 1:
                raise ValueError("shards need the hub's own broker; with another one shards = 1")

    @staticmethod
    def clock() -> float:
        """Seconds since 1970, UTC: a hub's own clock is kept by its operating system."""
        return time.time()

    @property
    def folder(self) -> Path:
        """``state`` as a path."""
        return Path(self.state)

    @property
    def database_url(self) -> str:
        """Where the tables are."""
        return self.database or f"sqlite:///{self.folder / 'hub.db'}"

    @property
    def public_url(self) -> str:
        """What a claim tells a box to call."""
        return f"https://{self._host}:{self.https_port}"

    @property
    def verify_url(self) -> str:
        """Where a printed opinion sends whoever scans its code."""
        return f"https://{self._host}:{self.console_port}/verify"

    @property
    def _host(self) -> str:
        host = self.names[0] if self.names else socket.getfqdn()
        return f"[{host}]" if ":" in host else host
