"""What the services of the port and the core say to each other over the control socket."""

from typing import Annotated, Final

import msgspec

from lianzhen_protocol.imaging import Uid

MAX_COMMITTED: Final = 5000
"""Images of one request for commitment."""


class Due(msgspec.Struct, frozen=True, kw_only=True):
    """An examination that is to be done: an order, or a request for a consultation."""

    study_uid: str
    accession: str
    number: str
    """The patient's number at the clinic."""
    name: str
    birth_date: str
    """YYYYMMDD; "" unknown."""
    sex: str
    pregnant: bool | None = None
    modality: str
    """Empty: whichever the doctor at the modality sees fit."""
    procedure: str
    reason: str = ""
    by: str
    clinic: str = ""
    urgent: bool = False
    started: bool = False
    at_ms: int


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """What the core answers: what is due, and the time by its clock, which the box trusts."""

    now_ms: int
    due: list[Due]


class Sop(msgspec.Struct, frozen=True, kw_only=True):
    """An image by class and instance, as a modality names it."""

    sop_class: Uid
    sop_uid: Uid


class Failed(msgspec.Struct, frozen=True, kw_only=True):
    """An image that is not committed, and why (PS3.3, C.14.1.1)."""

    sop_class: Uid
    sop_uid: Uid
    reason: int


class Commit(msgspec.Struct, frozen=True, kw_only=True):
    """A modality asks whether it may delete these."""

    title: str
    address: str
    transaction: Uid
    images: Annotated[tuple[Sop, ...], msgspec.Meta(min_length=1, max_length=MAX_COMMITTED)]


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """The id under which something is durable."""

    id: str


class Decided(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a request for commitment, to be told to its modality."""

    id: str
    title: str
    address: str
    port: int
    """Where the modality listens; 0: nobody knows."""
    transaction: str
    done: tuple[Sop, ...] = ()
    failed: tuple[Failed, ...] = ()
