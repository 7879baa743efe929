"""A DICOM caller that says exactly what it is told to, byte by byte; and a server to say it to."""

import contextlib
import queue
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec

from lianzhen_edge.dicom import dimse, pdu
from lianzhen_edge.dicom.arrival import Admissions, Arrival, Called, Caller, Kept
from lianzhen_edge.dicom.association import Limits
from lianzhen_edge.dicom.dimse import Field, Service, Tag
from lianzhen_edge.dicom.pdu import Kind
from lianzhen_edge.dicom.scp import House, Server, Tls
from lianzhen_edge.dicom.segment_log import SegmentLog
from lianzhen_edge.dicom.segments import Found, SegmentReader
from lianzhen_edge.dicom.storage import Reception
from lianzhen_runtime.keys import FileKeys

from .bad_disk import BadDisk

CT, EXPLICIT = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1"
VERIFICATION = "1.2.840.10008.1.1"


class Heard:
    """Takes the place of the core's socket."""

    def __init__(self) -> None:
        self.told: queue.Queue[Kept | Called] = queue.Queue()

    def tell(self, notice: Kept | Called) -> None:
        self.told.put(notice)


@dataclass
class Scp:
    """A running SCP and what it is made of."""

    server: Server
    folder: Path
    keys: FileKeys
    disk: BadDisk
    admissions: Admissions
    heard: Heard

    @property
    def port(self) -> int:
        return self.server.port

    def kept(self) -> list[tuple[Arrival, Found]]:
        reader = SegmentReader(self.folder, self.keys)
        return [
            (msgspec.msgpack.decode(found.meta, type=Arrival), found)
            for number in reader.segments()
            for found in reader.scan(number)
        ]

    def body(self, found: Found) -> bytes:
        return SegmentReader(self.folder, self.keys).body(found.place)


@contextmanager
def running(
    folder: Path,
    *,
    limits: Limits | None = None,
    services: Sequence[Service] = (),
    title: str = "",
    tls: Tls | None = None,
) -> Iterator[Scp]:
    """One on a port of its own, that admits CT1 from this machine."""
    images, keys, disk, heard = folder / "dicom", FileKeys(folder / "keys"), BadDisk(), Heard()
    log = SegmentLog(images, keys, disk=disk, segment_bytes=1 << 20)
    admissions = Admissions(images)
    admissions.write([Caller("CT1", "127.0.0.1")])
    house = House(Reception(log, heard), admissions, heard, services=services, title=title)
    server = Server(("127.0.0.1", 0), house, limits=limits, tls=tls)
    yield Scp(server, images, keys, disk, admissions, heard)
    server.close()
    log.close()


class Said(NamedTuple):
    """A PDU that came back."""

    kind: Kind
    content: bytes


def item(kind: int, content: bytes) -> bytes:
    """An item of an A-ASSOCIATE-RQ."""
    return struct.pack(">BBH", kind, 0, len(content)) + content


def request(
    title: str = "CT1",
    called: str = "LIANZHEN",
    *,
    version: int = 1,
    application: str = pdu.APPLICATION_CONTEXT,
    abstracts: Sequence[str] = (CT, VERIFICATION),
    max_pdu: int = 0,
) -> bytes:
    """An A-ASSOCIATE-RQ; its contexts are 1, 3, 5 and so on."""
    body = struct.pack(
        ">H2x16s16s32x", version, called.encode().ljust(16), title.encode().ljust(16)
    )
    body += item(0x10, application.encode())
    for number, abstract in enumerate(abstracts):
        syntaxes = item(0x30, abstract.encode()) + item(0x40, EXPLICIT.encode())
        body += item(0x20, bytes((2 * number + 1, 0, 0, 0)) + syntaxes)
    body += item(0x50, item(0x51, struct.pack(">L", max_pdu)) + item(0x52, b"1.2.3"))
    return pdu.pdu(Kind.ASSOCIATE_RQ, body)


def echo(message_id: int = 1, context: int = 3) -> bytes:
    """A C-ECHO-RQ."""
    command = dimse.encode(
        {
            Tag.AFFECTED_SOP_CLASS: VERIFICATION,
            Tag.COMMAND_FIELD: Field.C_ECHO,
            Tag.MESSAGE_ID: message_id,
            Tag.DATA_SET_TYPE: dimse.NO_DATA_SET,
        }
    )
    return b"".join(pdu.message(context, command, b"", 16384))


def store_command(uid: str, message_id: int = 1) -> bytes:
    """The command set of a C-STORE-RQ."""
    return dimse.encode(
        {
            Tag.AFFECTED_SOP_CLASS: CT,
            Tag.AFFECTED_SOP_INSTANCE: uid,
            Tag.COMMAND_FIELD: Field.C_STORE,
            Tag.MESSAGE_ID: message_id,
            Tag.PRIORITY: 0,
            Tag.DATA_SET_TYPE: 1,
        }
    )


def store(uid: str, data: bytes, message_id: int = 1, *, most: int = 16384) -> bytes:
    """A C-STORE-RQ."""
    return b"".join(pdu.message(1, store_command(uid, message_id), data, most))


class Line:
    """A connection. ``patience``: seconds that an answer may take."""

    def __init__(self, port: int, patience: float = 60.0) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=patience)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def say(self, content: bytes) -> None:
        self.socket.sendall(content)

    def say_no_more(self) -> None:
        """Close our half of it."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)

    def hear(self) -> Said | None:
        """The next PDU; None if the other end has closed."""
        head = self._read(6)
        if len(head) < 6:
            return None
        kind, length = struct.unpack(">BxL", head)
        return Said(Kind(kind), self._read(length))

    def ends(self) -> bool:
        """Whether the other end closes, whatever it says before."""
        try:
            while self.hear() is not None:
                pass
        except ConnectionError:
            pass
        return True

    def status(self) -> int:
        """Of the response that comes next."""
        said = self.hear()
        assert said is not None
        assert said.kind is Kind.DATA
        return int(dimse.decode(said.content[6:])[Tag.STATUS])

    def close(self) -> None:
        self.socket.close()

    def _read(self, size: int) -> bytes:
        found = b""
        while len(found) < size and (piece := self.socket.recv(size - len(found))):
            found += piece
        return found


@contextmanager
def line(port: int, *, associate: bool = True) -> Iterator[Line]:
    """An association, or a mere connection."""
    made = Line(port)
    try:
        if associate:
            made.say(request())
            said = made.hear()
            assert said is not None
            assert said.kind is Kind.ASSOCIATE_AC
        yield made
    finally:
        made.close()
