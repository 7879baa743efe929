"""What a caller may say instead of DICOM: conversations mutated, cut, shuffled and lied in.

A conversation is seeded, so that one that fails can be had again.
"""

import contextlib
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Final

from lianzhen_edge.dicom import dimse, pdu
from lianzhen_edge.dicom.dimse import Tag
from lianzhen_edge.dicom.pdu import Kind
from lianzhen_edge.dicom.segments import SegmentReader

from .modality import ct_slice, data_set
from .upper_layer import Line, Scp, echo, request, store, store_command

Mutation = Callable[[random.Random, bytearray], bytearray]


def flip(luck: random.Random, said: bytearray) -> bytearray:
    """Some bytes become others."""
    for _ in range(luck.randint(1, 8)):
        said[luck.randrange(len(said))] = luck.randrange(256)
    return said


def flip_head(luck: random.Random, said: bytearray) -> bytearray:
    """One of the first bytes, where lengths and types are."""
    said[luck.randrange(min(len(said), 16))] = luck.randrange(256)
    return said


def cut(luck: random.Random, said: bytearray) -> bytearray:
    """It ends early."""
    return said[: luck.randrange(len(said))]


def lie(luck: random.Random, said: bytearray) -> bytearray:
    """Four bytes somewhere are a length that is none."""
    at = luck.randrange(max(1, len(said) - 4))
    lies = (0, 1, 2, 5, 0x7FFFFFFF, 0xFFFFFFFF, luck.randrange(1 << 20))
    said[at : at + 4] = struct.pack(luck.choice("<>") + "L", luck.choice(lies))
    return said


def remove(luck: random.Random, said: bytearray) -> bytearray:
    """A piece is missing."""
    at = luck.randrange(len(said))
    del said[at : at + luck.randint(1, 64)]
    return said


def repeat(luck: random.Random, said: bytearray) -> bytearray:
    """A piece comes twice."""
    at = luck.randrange(len(said))
    piece = said[at : at + luck.randint(1, 300)]
    said[at:at] = piece
    return said


def insert(luck: random.Random, said: bytearray) -> bytearray:
    """Bytes of nobody's."""
    at = luck.randrange(len(said) + 1)
    said[at:at] = luck.randbytes(luck.randint(1, 64))
    return said


MUTATIONS: Final[tuple[Mutation, ...]] = (flip, flip_head, cut, lie, remove, repeat, insert)


def sound(luck: random.Random) -> list[bytes]:
    """A conversation in order: association, echoes and images, perhaps a release."""
    parts = [request(max_pdu=luck.choice((0, 128, 16384)))]
    for number in range(luck.randint(1, 4)):
        image = ct_slice(luck.randrange(1 << 30), "1.2.3", "1.2.3.4", side=16)
        content, uid = data_set(image), str(image.SOPInstanceUID)
        whole = store(uid, content, number + 1, most=luck.choice((16, 100, 16384)))
        parts.append(luck.choice((whole, whole, echo(number + 1))))
    if luck.random() < 0.5:
        parts.append(luck.choice((pdu.pdu(Kind.RELEASE_RQ, bytes(4)), pdu.abort(None))))
    return parts


def conversation(luck: random.Random) -> list[bytes]:
    """One that has something wrong, or nothing but noise."""
    if luck.random() < 0.05:
        return [luck.randbytes(luck.randint(1, 3000))]
    parts = sound(luck)
    if luck.random() < 0.15:
        luck.shuffle(parts)
        return parts
    chosen = luck.randrange(len(parts))
    for _ in range(luck.choice((1, 1, 1, 3))):
        if parts[chosen]:
            parts[chosen] = bytes(luck.choice(MUTATIONS)(luck, bytearray(parts[chosen])))
    return parts


def talk(node: Scp, parts: list[bytes]) -> list[str]:
    """Say it, and listen until the other end has nothing more to say; UIDs that got Success."""
    caller, stored = Line(node.port), list[str]()
    try:
        for part in parts:
            with contextlib.suppress(OSError):
                caller.say(part)
        caller.say_no_more()
        while (said := _heard(caller)) is not None:
            stored += said
    finally:
        caller.close()
    return stored


def _heard(caller: Line) -> list[str] | None:
    content, last = b"", False
    while not last:
        try:
            said = caller.hear()
        except ConnectionError:
            return None
        if said is None:
            return None
        if said.kind is not Kind.DATA:
            return []
        content += said.content[6:]
        last = bool(said.content[5] & pdu.LAST)
    command = dimse.decode(content)
    if command[Tag.COMMAND_FIELD] == 0x8001 and command[Tag.STATUS] == 0:
        return [command.get(Tag.AFFECTED_SOP_INSTANCE, "")]
    return []


def kept_uids(node: Scp) -> set[str]:
    """UIDs of images that lie here, whole to the last byte, and not merely held."""
    reader, found = SegmentReader(node.folder, node.keys), set[str]()
    for arrival, record in node.kept():
        body = reader.body(record.place)
        if not record.held and len(body) == arrival.size:
            found.add(arrival.sop_uid)
    return found


def descriptors() -> int:
    """Files and sockets that this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def memory_mb() -> float:
    """What this process has in memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / (1 << 20)


def half_an_image() -> bytes:
    """An image that never ends."""
    return request() + b"".join(pdu.message(1, store_command("1.2.3"), bytes(9000), 16384))[:-100]
