"""DICOM over TLS (PS3.15, B.9; BCP 195): both sides show certificates of the box's authority."""

import ssl
import time
from pathlib import Path
from typing import Final

from lianzhen_edge.appliance.browser_trust import BrowserAuthority, own_addresses
from lianzhen_runtime.errors import LianzhenError
from lianzhen_runtime.files import write_durably

from .arrival import printable

_AUTHORITY: Final = "browser"
"""Folder of the box's authority below the state folder."""


class TitleUnfit(LianzhenError):
    """Not an AE title."""

    code = "ae-title"
    exit_status = 2


def context(state: Path) -> ssl.SSLContext:
    """For one connection, so that a certificate that was renewed is shown to the next."""
    authority = BrowserAuthority(state / _AUTHORITY, time.time)
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.load_cert_chain(authority.server(own_addresses()))
    made.load_verify_locations(cadata=authority.pem)
    made.verify_mode = ssl.CERT_REQUIRED
    return made


def issue(state: Path, title: str, out: Path) -> list[Path]:
    """Files for a modality, to be brought to it by hand: its key, its certificate, the box's
    authority.
    """
    if not title or printable(title) != title or "/" in title:
        raise TitleUnfit("an AE title has 1 to 16 printable characters of ASCII")
    authority = BrowserAuthority(state / _AUTHORITY, time.time)
    key, certificate = authority.modality(title)
    files = {f"{title}-key.pem": key, f"{title}.pem": certificate, "authority.pem": authority.pem}
    out.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, content in files.items():
        write_durably(out / name, content.encode())
    return [out / name for name in files]
