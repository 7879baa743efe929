"""What the services of the port and the core say to each other over the control socket."""

from typing import Annotated, Final, Literal

import msgspec

from lianzhen_protocol.imaging import Instance, Study, Text, Uid
from lianzhen_protocol.orders import StepSeries

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


class Sought(msgspec.Struct, frozen=True, kw_only=True):
    """What a workstation looks for or fetches, as far as its unique keys say."""

    title: str
    address: str
    level: Annotated[str, msgspec.Meta(pattern="^(STUDY|SERIES|IMAGE)$")]
    studies: Annotated[list[Uid], msgspec.Meta(max_length=1000)] = []
    series: Annotated[list[Uid], msgspec.Meta(max_length=1000)] = []
    images: Annotated[list[Uid], msgspec.Meta(max_length=5000)] = []
    destination: str = ""
    """AE title that the images are to go to, if it is another's association."""


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """Candidates: studies, or one study with its images."""

    studies: list[Study]
    images: list[Instance] = []
    more: bool = False
    """There are older studies, which nobody looked at."""


class Piece(msgspec.Struct, frozen=True, kw_only=True):
    """An image, and where it lies in the segment log."""

    sop_class: str
    sop_uid: str
    transfer_syntax: str
    segment: int
    """-1: it is at the hub only."""
    offset: int = 0


class Fetched(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be sent, and where the destination listens."""

    pieces: list[Piece]
    address: str = ""
    port: int = 0


class Begin(msgspec.Struct, frozen=True, kw_only=True):
    """A modality begins an examination: what MPPS N-CREATE says."""

    title: str
    address: str
    sop_uid: Uid
    station: Text = ""
    modality: Text = ""
    study_uid: Uid | Literal[""] = ""
    accession: Text = ""
    number: Text = ""
    description: Text = ""
    begun: Text = ""


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """It says more of it, or that it has ended: MPPS N-SET."""

    title: str
    address: str
    sop_uid: Uid
    state: Literal["in-progress", "completed", "discontinued"]
    ended: Text = ""
    description: Text = ""
    series: Annotated[tuple[StepSeries, ...], msgspec.Meta(max_length=500)] = ()
