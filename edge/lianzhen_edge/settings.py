"""The edge box's configuration file, ``/etc/lianzhen/edge.toml``."""

from pathlib import Path
from typing import Annotated, Literal

import msgspec

from lianzhen_runtime.config import Section

DEFAULT_FILE = Path("/etc/lianzhen/edge.toml")

Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]


class Settings(Section, frozen=True):
    """Every key has a default: an empty file is a working box."""

    state: str = "/var/lib/lianzhen-edge"
    """Folder of identity, keys and journal; mode 0700."""

    status_port: Port = 8460
    """Loopback port of /health and /metrics; 0 takes any free one."""

    listen: str = "0.0.0.0"  # noqa: S104 - PCs, telephones and devices of the clinic come here
    """Address that everything for the clinic's network listens on."""

    console_port: Port = 8440
    """The clinic's console, HTTPS. Not 443: a box that runs as a plain user may not have it."""

    setup_port: Port = 8441
    """Plain HTTP: from here a PC takes the authority that makes the console trusted."""

    console_certificate: str | None = None
    console_key: str | None = None
    """The operator's own certificate chain and key (PEM), where the box has a real name."""

    disk_reserve_mb: Annotated[int, msgspec.Meta(ge=1)] = 64
    """What new records leave free on the state folder's disk, images twice as much. Alarms and
    audit rows may use three quarters of it; deleting, which makes room again, all of it."""

    journal_quota_mb: Annotated[int, msgspec.Meta(ge=0)] = 4096
    """Most that the journal takes of the disk; 0: whatever the disk has."""

    images_quota_mb: Annotated[int, msgspec.Meta(ge=0)] = 16384
    """Most that images and previews take, in segments of 32 MB; at least 128, or 0: whatever the
    disk has."""

    log_quota_mb: Annotated[int, msgspec.Meta(ge=0)] = 32
    """Most that the log's files in ``state`` take; 0: there are none, only standard error."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"

    dicom_port: Port = 11112
    """Port on all addresses where modalities send images; 0: none is opened."""

    dicom_tls_port: Port = 0
    """The same over TLS, for modalities with a certificate of the box's; 0: none is opened."""

    dicom_ae_title: Annotated[str, msgspec.Meta(pattern="^[!-~]{1,16}$")] = "LIANZHEN"
    """Our AE title, to be typed into the modalities."""

    dicom_ae_title_required: bool = False
    """Whether a modality that calls another title than ours is rejected."""

    device_port: Port = 8884
    """Port where wearables publish, MQTT over TLS; 0: none is opened."""

    device_plain_port: Port = 0
    """The same without TLS, for devices that have none: their passwords go in clear."""

    triage_model: bool = True
    """The learned score's own process, some 70 MB; without it triage is the table and NEWS2."""

    hardware_id_file: str | None = None
    """File that names this machine, where the device tree and DMI do not."""

    print_server: str = "http://127.0.0.1:631"
    """CUPS: an http address, or the path of its Unix socket."""

    print_queue: str = ""
    """Name of the queue that opinions are printed on; empty: nothing is printed here."""

    print_paper: Literal["A4", "A5"] = "A4"

    fonts: tuple[str, ...] = (
        "/usr/share/fonts/truetype/wqy/wqy-microhei.ttc",
        "/usr/share/fonts/truetype/hanazono/HanaMinA.ttf",
        "/usr/share/fonts/truetype/hanazono/HanaMinB.ttf",
    )
    """TrueType files; each character is printed in the first that has it."""

    policies: str | None = None
    """Folder of ``*.toml`` with rules of settlement beside those that ship."""

    insurance_region: str = "520300"
    """Pooling region of the clinic (GB/T 2260), for patients whose card says no other."""

    expert_level: str = "city"
    """Level of the hospital that consults: which price list holds."""

    def __post_init__(self) -> None:
        if bool(self.console_certificate) != bool(self.console_key):
            raise ValueError("console_certificate and console_key belong together")
        if 0 < self.images_quota_mb < 128:
            raise ValueError("images_quota_mb is at least 128: segments of 32 MB have to turn over")

    @property
    def log_bytes(self) -> int:
        """What the log of one program may take: three write one."""
        return (self.log_quota_mb << 20) // 3

    @property
    def folder(self) -> Path:
        """``state`` as a path."""
        return Path(self.state)
