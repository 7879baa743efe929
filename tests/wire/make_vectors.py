"""Makes tests/data/vectors/wire-v1.json: ``python tests/wire/make_vectors.py``.

Fixed inputs, so the file only changes when the wire does. A released file is never made again:
a later version of the wire gets a file of its own, and both are read by test_golden.py.
"""

import json
from pathlib import Path
from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from lianzhen_protocol import chain, claims, hello, kinds, sealing, series, signing
from lianzhen_protocol.frame import Frame, FrameCodec
from lianzhen_protocol.hello import (
    Ack,
    DownMark,
    Hello,
    Message,
    Parentage,
    Presence,
    Refused,
    SayHello,
    StreamClaim,
    Welcome,
)
from lianzhen_protocol.identity import Epoch, NodeId, new_node_id, uuid7
from lianzhen_protocol.lanes import Group
from lianzhen_protocol.marks import ForkReason, Position, StreamMark
from lianzhen_protocol.records import (
    Body,
    DiagnosticNote,
    RecordAccepted,
    RecordRejected,
    RecordSeen,
)
from lianzhen_protocol.series import Sample, VitalsSeries
from lianzhen_protocol.short_frame import DICTIONARY, ShortCodec
from lianzhen_protocol.topics import Channel, Direction, Topic
from lianzhen_protocol.vitals import Measurement, Parameter, Quality, failed

PATH: Final = Path(__file__).parent.parent / "data" / "vectors" / "wire-v1.json"

NODE: Final = NodeId("n0123456789ab")
EPOCH: Final = Epoch(bytes(range(16)))
PARENT: Final = Epoch(bytes(range(16, 32)))
STREAM: Final = "vitals.ward-2"
NOW_MS: Final = 1_767_225_600_000
SIGNING_SEED: Final = bytes(range(32))
SEALING_KEY: Final = bytes(range(32, 64))
CODE: Final = bytes(range(16))
PIN: Final = bytes(range(32))
SPKI: Final = b"a public key's DER"

FRAMED: Final = 3
"""How many of the records are in the frame: those that the first release had."""

SAMPLES: Final = (
    Sample(
        NOW_MS - 700,
        700,
        (
            Measurement(parameter=Parameter.SPO2, value=97.0),
            Measurement(parameter=Parameter.TEMPERATURE, value=36.6),
        ),
    ),
    Sample(
        NOW_MS + 301,
        700,
        (
            Measurement(parameter=Parameter.SPO2, value=96.0, quality=Quality.POOR),
            failed(Parameter.TEMPERATURE),
        ),
    ),
    Sample(NOW_MS + 4300, 698, (Measurement(parameter=Parameter.SPO2, value=96.0),)),
)
"""Of a device 0.7 s behind: a poor signal, a sensor that fails, a gap."""

SERIES: Final = VitalsSeries(
    device=bytes(range(16)),
    received_ms=NOW_MS + 60_100,
    samples=series.pack(SAMPLES, NOW_MS + 60_100),
)

BODIES: Final[dict[str, Body]] = {
    "diagnostic.note": DiagnosticNote(text="血压 120/80"),
    "record.rejected": RecordRejected(
        record_id=uuid7(NOW_MS, bytes(10)), code="consultation-closed", reason="已结束"
    ),
    "record.seen": RecordSeen(
        record_id=uuid7(NOW_MS, bytes(10)), seen_by="expert-7", seen_ms=NOW_MS + 60_000
    ),
    "record.accepted": RecordAccepted(record_id=uuid7(NOW_MS, bytes(10))),
    "vitals.series": SERIES,
}


def record_vectors() -> dict[str, str]:
    """A record of each kind; the id's random part is its place in the table."""
    return {
        kind: kinds.encode(body, uuid7(NOW_MS, bytes([at]) * 10), NOW_MS).hex()
        for at, (kind, body) in enumerate(BODIES.items(), 1)
    }


def messages() -> dict[str, Message]:
    """Each message that travels unsigned, or inside a signature."""
    last = Position(9, bytes([9]) * 32)
    mark = StreamMark(STREAM, Position(7, bytes([7]) * 32), 5)
    session, instance = bytes([1]) * 16, bytes([2]) * 16
    return {
        "hello": Hello(
            session=session,
            group=Group.URGENT,
            protocols=(1,),
            epoch=EPOCH,
            parentage=Parentage(PARENT, ForkReason.RECEIVER_AHEAD),
            instance=instance,
            serial="0a1b",
            software="0.1.0",
            now_ms=NOW_MS,
            streams=(StreamClaim(STREAM, last, 5),),
            down=(DownMark(PARENT, "record", Position(3, bytes([3]) * 32)),),
        ),
        "say-hello": SayHello(),
        "welcome": Welcome(
            session=session, protocol=1, now_ms=NOW_MS, credit=1 << 20, marks=(mark,)
        ),
        "ack": Ack(
            session=session,
            epoch=EPOCH,
            now_ms=NOW_MS,
            credit=1 << 20,
            marks=(StreamMark(STREAM, last, 9, gap=True),),
        ),
        "presence": Presence(instance=instance, group=Group.BULK),
        "refused": Refused(session=session, code="revoked", reason="This box was revoked."),
    }


def vectors() -> dict[str, object]:
    """Everything, as JSON; bytes in hexadecimal."""
    records = list(record_vectors().values())[:FRAMED]
    entries = tuple(map(bytes.fromhex, records))
    genesis = chain.genesis(NODE, EPOCH, STREAM)
    frame = Frame(EPOCH, STREAM, 1, genesis, entries)
    key = Ed25519PrivateKey.from_private_bytes(SIGNING_SEED)
    found = messages()
    welcome, ack, refused = found["welcome"], found["ack"], found["refused"]
    assert isinstance(welcome, Welcome)
    assert isinstance(ack, Ack)
    assert isinstance(refused, Refused)
    place = sealing.record_place(NODE, EPOCH, STREAM, 7)
    claim = claims.Claim("https://hub.example:8443", "BX-0042", CODE, PIN)
    time = signing.sign_time(key, "6e6f6e6365", NOW_MS)
    return {
        "node_id": {"random": bytes(range(8)).hex(), "node": new_node_id(bytes(range(8)))},
        "uuid7": {"unix_ms": NOW_MS, "random": bytes(range(10)).hex(),
                  "id": uuid7(NOW_MS, bytes(range(10))).hex()},
        "topics": [
            str(Topic(NODE, Direction.UP, Channel.HELLO)),
            str(Topic(NODE, Direction.UP, Channel.STREAM, STREAM)),
            str(Topic(NODE, Direction.DOWN, Channel.ACK)),
        ],
        "records": record_vectors(),
        "chain": {"node": NODE, "epoch": EPOCH.hex(), "stream": STREAM, "genesis": genesis.hex(),
                  "after": [here.hex() for here in chain.walk(genesis, entries)]},
        "frame": FrameCodec().encode(frame).hex(),
        "short_frame": {"dictionary": DICTIONARY.hex(), "frame": ShortCodec().encode(frame).hex()},
        "messages": {tag: hello.encode(message).hex() for tag, message in found.items()},
        "signed": {
            "node": NODE,
            "seed": SIGNING_SEED.hex(),
            "public_key": key.public_key().public_bytes_raw().hex(),
            "welcome": signing.sign(key, NODE, welcome, b"certificate").hex(),
            "ack": signing.sign(key, NODE, ack).hex(),
            "refused": signing.sign(key, NODE, refused).hex(),
            "time": {"nonce": time.nonce, "now_ms": time.now_ms, "signature": time.signature},
        },
        "sealed": {
            "key": SEALING_KEY.hex(),
            "place": place.hex(),
            "plain": entries[0].hex(),
            "blob": sealing.SealingKey(SEALING_KEY).seal(bytes(12), entries[0], place).hex(),
        },
        "minute": {
            "received_ms": SERIES.received_ms,
            "samples": SERIES.samples.hex(),
            "readings": [
                {"id": name, "device_ms": at.device_ms, "offset_ms": at.offset_ms,
                 "measurements": msgspec.to_builtins(at.measurements)}
                for name, at in series.readings(bytes(16), SERIES)
            ],
        },
        "claim": {
            "text": str(claim),
            "code": claims.code_text(CODE),
            "code_bytes": CODE.hex(),
            "key": claims.claim_key(CODE).hex(),
            "nonce": "6e6f6e6365",
            "spki": SPKI.hex(),
            "proof": claims.proof(claims.claim_key(CODE), "6e6f6e6365", claim.box, SPKI),
            "reapproval": claims.reapproval_challenge("6e6f6e6365", NODE, SPKI).decode(),
        },
    }  # fmt: skip


if __name__ == "__main__":
    PATH.parent.mkdir(parents=True, exist_ok=True)
    PATH.write_text(json.dumps(vectors(), indent=2, ensure_ascii=False) + "\n")
