"""One root after another: a new one is made, boxes move to it, then the old one is retired.

While two roots are there, the old one serves (boxes that were off know no other) and the new one
issues certificates of boxes; both are trusted, and boxes are given both. A box moves within an hour
of being online. When the old one is retired, its key is destroyed; its certificate stays, for what
experts signed under it.
"""

from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from sqlalchemy import Connection, select

from lianzhen_hub.store.tables import certificate, node
from lianzhen_runtime.errors import Unavailable
from lianzhen_runtime.files import sync_folder, write_durably

from .authority import NEXT, RETIRED, ROOT, Authority, pem_of
from .desk import ACTIVE, CURRENT


class Straggler(NamedTuple):
    """A box in service whose certificate in use is not of the new root."""

    node: str
    box: str
    clinic: str


def begin(authority: Authority) -> None:
    """Make the next root; Unavailable if there is one."""
    if authority.following is not None:
        raise Unavailable("a rotation is under way: see 'lianzhen-hub ca status'")
    authority.new_root(NEXT)


def finish(folder: Path, authority: Authority, left: list[Straggler], *, anyway: bool) -> None:
    """Retire the old root: its key is gone after this. Unavailable while boxes depend on it."""
    if authority.following is None:
        raise Unavailable("there is no new root: 'lianzhen-hub ca rotate' makes one")
    if left and not anyway:
        names = ", ".join(each.node for each in left[:5])
        raise Unavailable(
            f"{len(left)} boxes have not moved yet ({names}): let them come online, or leave"
            " them behind with --anyway; they then need a new claim and your approval"
        )
    retired = folder / RETIRED
    before = retired.read_bytes() if retired.exists() else b""
    write_durably(retired, before + pem_of(authority.root).encode())
    (folder / NEXT).rename(folder / ROOT)
    sync_folder(folder)


def stragglers(db: Connection, authority: Authority) -> list[Straggler]:
    """Boxes that still live by the old root; none while there is but one."""
    if authority.following is None:
        return []
    held = {
        row.node: row.pem
        for row in db.execute(
            select(certificate.c.node, certificate.c.pem).where(certificate.c.state == CURRENT)
        )
    }
    rows = db.execute(select(node).where(node.c.status == ACTIVE).order_by(node.c.enrolled_ms))
    return [
        Straggler(row.id, row.box, row.clinic)
        for row in rows
        if not _is_of(held.get(row.id, ""), authority.following)
    ]


def _is_of(pem: str, root: x509.Certificate) -> bool:
    return bool(pem) and x509.load_pem_x509_certificate(pem.encode()).issuer == root.subject
