"""What the services of the port and the core say to each other over the control socket."""

import msgspec


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
