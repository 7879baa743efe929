"""The receiving half of a stream (docs/protocol.md, 4): hub for up streams, box for down."""

from typing import NamedTuple

from . import chain
from .frame import Frame
from .marks import Position


class Accepted(NamedTuple):
    """New records, in order; commit them together with ``position``, then acknowledge."""

    first: int
    records: tuple[bytes, ...]
    position: Position


class Repeated(NamedTuple):
    """Nothing new; acknowledge where we stand, since the earlier answer may be lost."""


class Gap(NamedTuple):
    """Records before this frame are missing; ask for all after the mark (go-back-N)."""


class Divergent(NamedTuple):
    """This frame does not continue what we hold; answer with our mark, the writer will fork."""


Verdict = Accepted | Repeated | Gap | Divergent


def receive(mark: Position, frame: Frame) -> Verdict:
    """What a frame adds to a stream that stands at ``mark``.

    A frame may overlap what we have, as it may have been cut anew: then its chain is walked
    through the overlap, and only a history that arrives at our hash is continued.
    """
    if frame.first > mark.seq + 1:
        return Gap()
    if frame.last <= mark.seq:
        return Repeated()
    overlap = mark.seq + 1 - frame.first
    here = frame.before
    for record in frame.records[:overlap]:
        here = chain.extend(here, record)
    if here != mark.hash:
        return Divergent()
    fresh = frame.records[overlap:]
    for record in fresh:
        here = chain.extend(here, record)
    return Accepted(mark.seq + 1, fresh, Position(frame.last, here))
