"""How a retrieved image goes out: as C-STORE on the caller's association, or on one of our own."""

import contextlib
import enum
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from lianzhen_edge.dicom.arrival import part10_head
from lianzhen_edge.dicom.dimse import Field, Link, Outgoing, Tag
from lianzhen_edge.dicom.segments import Place, SegmentReader
from lianzhen_protocol.errors import SealBroken
from lianzhen_runtime.log import Log

from .said import Piece

if TYPE_CHECKING:
    from pynetdicom.association import Association

_MAX_CONTEXTS: Final = 128
_SECONDS: Final = 30
_log = Log("lianzhen.scp")


class Status(enum.Enum):
    """Of a sub-operation."""

    DONE = "done"
    WARNED = "warned"
    FAILED = "failed"


class Carrier(Protocol):
    """Takes images somewhere."""

    def carry(self, piece: Piece) -> Status:
        """Send one, and wait for its answer."""


class Shelves:
    """Where images lie."""

    def __init__(self, reader: SegmentReader) -> None:
        self._reader = reader

    def file(self, piece: Piece) -> bytes:
        """The Part 10 file; FileNotFoundError if only the hub has it, SealBroken."""
        if piece.segment < 0:
            raise FileNotFoundError(piece.sop_uid)
        return self._reader.body(Place(piece.segment, piece.offset))

    def data_set(self, piece: Piece) -> memoryview:
        """The data set in it, exactly as it came."""
        file = self.file(piece)
        head = part10_head(piece.sop_class, piece.sop_uid, piece.transfer_syntax)
        if not file.startswith(head):
            raise SealBroken("another file lies there")
        return memoryview(file)[len(head) :]


def judged(status: object) -> Status:
    """What a C-STORE's status means for the retrieval (PS3.4, C.4.2.1.8)."""
    if status == 0x0000:
        return Status.DONE
    return Status.WARNED if isinstance(status, int) and status >> 12 == 0xB else Status.FAILED


class SameAssociation:
    """C-GET: the caller has said for which classes it is an SCP."""

    def __init__(self, link: Link, shelves: Shelves) -> None:
        self._link, self._shelves = link, shelves
        self._ways = {
            (each.abstract_syntax, each.transfer_syntax): each
            for each in link.contexts
            if each.we_may_call
        }

    def carry(self, piece: Piece) -> Status:
        """Failed, without a word, if no context fits the image as it is."""
        way = self._ways.get((piece.sop_class, piece.transfer_syntax))
        if way is None:
            return Status.FAILED
        try:
            content = bytes(self._shelves.data_set(piece))
        except (FileNotFoundError, SealBroken):
            return Status.FAILED
        command = {
            Tag.COMMAND_FIELD: Field.C_STORE,
            Tag.AFFECTED_SOP_CLASS: piece.sop_class,
            Tag.AFFECTED_SOP_INSTANCE: piece.sop_uid,
            Tag.PRIORITY: 0,
        }
        return judged(self._link.call(Outgoing(way, command, content)).status)


@contextlib.contextmanager
def elsewhere(
    title: str,
    place: tuple[str, str, int],
    origin: tuple[str, int],
    pieces: Sequence[Piece],
    shelves: Shelves,
) -> Iterator[Carrier]:
    """C-MOVE: an association with ``place`` (title, address, port) for what is to be sent.

    ``origin``: who asked, and by which message.
    """
    from pynetdicom import AE, _config  # large, and few fetch anything

    _config.STORE_SEND_CHUNKED_DATASET = True  # the library's way to send a file undecoded
    called, address, port = place
    entity = AE(ae_title=title)
    entity.acse_timeout = entity.dimse_timeout = entity.connection_timeout = _SECONDS
    kinds = dict.fromkeys((each.sop_class, each.transfer_syntax) for each in pieces)
    for sop_class, syntax in list(kinds)[:_MAX_CONTEXTS]:
        entity.add_requested_context(sop_class, syntax)
    if not pieces:
        yield _Nowhere()
        return
    opened = entity.associate(address, port, ae_title=called)
    if not opened.is_established:
        _log.info("a destination was not reached", port=port)
        yield _Nowhere()
        return
    try:
        yield _OtherAssociation(opened, origin, shelves)
    finally:
        opened.release()


class _Nowhere:
    """Nobody took the association."""

    def carry(self, piece: Piece) -> Status:
        """Nothing goes."""
        return Status.FAILED


class _OtherAssociation:
    def __init__(self, opened: "Association", origin: tuple[str, int], shelves: Shelves) -> None:
        self._opened, self._origin, self._shelves = opened, origin, shelves

    def carry(self, piece: Piece) -> Status:
        """The library sends a file in pieces, as it is: it gets one that is in memory only."""
        from pydicom.dataset import Dataset

        title, message = self._origin
        try:
            with _in_memory(self._shelves.file(piece)) as path:
                answer = self._opened.send_c_store(
                    path, originator_aet=title, originator_id=message
                )
        except (FileNotFoundError, SealBroken, ValueError, RuntimeError):
            return Status.FAILED  # gone, or its class or syntax is not taken, or they hung up
        return judged(answer.get("Status") if isinstance(answer, Dataset) else None)


@contextlib.contextmanager
def _in_memory(content: bytes) -> Iterator[Path]:
    """A file that no disk ever sees."""
    descriptor = os.memfd_create("image")
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
        yield Path(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
