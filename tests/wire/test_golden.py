"""Bytes of every released wire are still read, and the text names everything that is on it."""

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from lianzhen_protocol import (
    chain,
    claims,
    errors,
    frame,
    hello,
    kinds,
    records,
    sealing,
    series,
    short_frame,
    signing,
    topics,
)
from lianzhen_protocol.claims import (
    EnrolRequest,
    Issued,
    Nonce,
    ReapprovalRequest,
    RekeyRequest,
)
from lianzhen_protocol.hello import Hello, Message, Parentage, Refusal, Signed
from lianzhen_protocol.identity import Epoch, NodeId, new_node_id, record_id, uuid7
from lianzhen_protocol.lanes import Lane
from lianzhen_protocol.marks import ForkReason, Position
from lianzhen_protocol.series import VitalsSeries
from lianzhen_protocol.signing import SignedTime

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "protocol.md").read_text()
GOLDEN: dict[str, Any] = json.loads((ROOT / "tests/data/vectors/wire-v1.json").read_text())
FRAMED = list(GOLDEN["records"])[:3]


def raw(*path: str) -> bytes:
    """A vector by its keys."""
    found: Any = GOLDEN
    for key in path:
        found = found[key]
    return bytes.fromhex(found)


def test_ids() -> None:
    node, made = GOLDEN["node_id"], GOLDEN["uuid7"]
    assert new_node_id(bytes.fromhex(node["random"])) == node["node"]
    assert uuid7(made["unix_ms"], bytes.fromhex(made["random"])).hex() == made["id"]


def test_topics() -> None:
    assert [str(topics.parse(topic)) for topic in GOLDEN["topics"]] == GOLDEN["topics"]


@pytest.mark.parametrize("kind", GOLDEN["records"])
def test_records_are_read_and_written_alike(kind: str) -> None:
    wire = raw("records", kind)
    record = records.decode(wire)
    body = kinds.open_body(record)
    assert record.kind == kind
    assert kinds.encode(body, record_id(record.id), record.created_ms) == wire


def test_a_minute_in_columns() -> None:
    given = GOLDEN["minute"]
    body = kinds.open_body(records.decode(raw("records", "vitals.series")))
    assert isinstance(body, VitalsSeries)
    assert (body.samples, body.received_ms) == (raw("minute", "samples"), given["received_ms"])
    found = list(series.readings(bytes(16), body))
    assert [name for name, _ in found] == [each["id"] for each in given["readings"]]
    for (_, reading), wanted in zip(found, given["readings"], strict=True):
        assert reading.device_ms == wanted["device_ms"]
        assert reading.offset_ms == wanted["offset_ms"]
        assert list(msgspec.to_builtins(reading.measurements)) == wanted["measurements"]
    packed = series.pack(series.unpack(body.samples, body.received_ms), body.received_ms)
    assert packed == body.samples
    assert packed.hex() in (ROOT / "docs" / "vitals.md").read_text(), "the page has it too"


def test_the_chain() -> None:
    given = GOLDEN["chain"]
    here = chain.genesis(NodeId(given["node"]), Epoch(raw("chain", "epoch")), given["stream"])
    assert here.hex() == given["genesis"]
    entries = [raw("records", kind) for kind in FRAMED]
    assert [after.hex() for after in chain.walk(here, entries)] == given["after"]


def test_the_short_frame_is_read() -> None:
    dictionary = raw("short_frame", "dictionary")
    assert dictionary == short_frame.DICTIONARY
    assert hashlib.sha256(dictionary).hexdigest() in TEXT
    assert f"the {len(dictionary)} bytes" in TEXT
    found = short_frame.ShortCodec().decode(raw("short_frame", "frame"))
    whole = frame.FrameCodec().decode(raw("frame"))
    place = Position(whole.first - 1, whole.before)
    assert found.place(whole.epoch, whole.stream, place) == whole
    assert found.place(whole.epoch, whole.stream, Position(0, bytes(32))).before == b""


def test_the_frame_is_read_and_its_header_is_frozen() -> None:
    codec, wire = frame.FrameCodec(), raw("frame")
    found = codec.decode(wire)
    assert found.records == tuple(raw("records", kind) for kind in FRAMED)
    assert found.before == raw("chain", "genesis")
    assert (found.first, found.last, found.stream) == (1, 3, GOLDEN["chain"]["stream"])
    again = codec.encode(found)  # its body may differ with the library's version
    header = 63 + len(found.stream)
    assert again[:header] == wire[:header]
    assert codec.decode(again) == found


@pytest.mark.parametrize("tag", GOLDEN["messages"])
def test_messages_are_read_and_written_alike(tag: str) -> None:
    wire = raw("messages", tag)
    message = hello.decode(wire)
    assert message.__struct_config__.tag == tag
    assert hello.encode(message) == wire


@pytest.mark.parametrize("tag", ["welcome", "ack", "refused"])
def test_signatures_are_verified(tag: str) -> None:
    key = Ed25519PublicKey.from_public_bytes(raw("signed", "public_key"))
    message = hello.decode(raw("signed", tag))
    assert isinstance(message, Signed)
    found = signing.verify(key, NodeId(GOLDEN["signed"]["node"]), message)
    assert hello.encode(found) == raw("messages", tag)
    assert hello.encode(message) == raw("signed", tag)


def test_the_time_is_verified() -> None:
    key = Ed25519PublicKey.from_public_bytes(raw("signed", "public_key"))
    given = GOLDEN["signed"]["time"]
    assert signing.verify_time(key, given["nonce"], SignedTime(**given)) == given["now_ms"]


def test_the_sealed_blob_opens() -> None:
    key = sealing.SealingKey(raw("sealed", "key"))
    assert key.open(raw("sealed", "blob"), raw("sealed", "place")) == raw("sealed", "plain")


def test_the_claim() -> None:
    given = GOLDEN["claim"]
    claim = claims.parse(given["text"])
    assert (str(claim), claim.code.hex()) == (given["text"], given["code_bytes"])
    assert claims.code_text(claim.code) == given["code"]
    key = claims.claim_key(claim.code)
    spki = bytes.fromhex(given["spki"])
    assert key.hex() == given["key"]
    assert claims.proof(key, given["nonce"], claim.box, spki) == given["proof"]
    node = GOLDEN["signed"]["node"]
    challenge = claims.reapproval_challenge(given["nonce"], node, spki)
    assert challenge.decode() == given["reapproval"]


# -- the text


def codes() -> Iterator[str]:
    """Every code of the error tree, and of hellos that are refused or remarkable."""
    for found in vars(errors).values():
        if isinstance(found, type) and issubclass(found, errors.ProtocolError):
            yield found.code
    for path in (ROOT / "protocol").rglob("*.py"):
        text = path.read_text()
        if "docs/protocol.md" not in text:
            continue  # what records mean is no matter of the wire
        yield from re.findall(r"code=\"([a-z-]+)\"", text)
        yield from re.findall(r"Observation\(\"([a-z-]+)\"", text)
    yield from Refusal


def names() -> Iterator[str]:
    """Everything on the wire that has a name."""
    yield from codes()
    yield from topics.Channel
    yield from topics.Direction
    yield from records.KINDS
    yield from ForkReason
    yield from (lane.name.lower().replace("_", " ") for lane in Lane)
    yield from (tag for kind in get_args(Message) if (tag := kind.__struct_config__.tag))
    structs = (*get_args(Message), Parentage, EnrolRequest, RekeyRequest, ReapprovalRequest,
               Issued, Nonce, SignedTime, records.Record)  # fmt: skip
    for struct in structs:
        yield from struct.__struct_fields__
    for majors in records.KINDS.values():
        for body in majors.values():
            yield from body.__struct_fields__


@pytest.mark.parametrize("name", sorted(set(names())))
def test_the_text_names(name: str) -> None:
    assert f"`{name}`" in TEXT


@pytest.mark.parametrize("value", [
    frame.MAX_RECORDS, frame.MAX_RECORD_BYTES, frame.TARGET_PLAIN_BYTES, frame.MAX_PLAIN_BYTES,
    frame.MAX_WIRE_BYTES, hello.MAX_HELLO_STREAMS,
])  # fmt: skip
def test_the_text_gives_the_limits(value: int) -> None:
    assert f"{value:,}" in TEXT


def test_the_text_quotes_the_vectors() -> None:
    quoted = re.sub(r"\s", "", TEXT)
    for path in (("chain", "genesis"), ("frame",), ("messages", "say-hello"), ("messages", "ack"),
                 ("records", "diagnostic.note"), ("uuid7", "id"), ("sealed", "blob")):  # fmt: skip
        assert raw(*path).hex() in quoted
    assert GOLDEN["claim"]["code"] in TEXT
    assert GOLDEN["claim"]["proof"] in TEXT


def test_every_module_cites_a_section_that_exists() -> None:
    for path in (ROOT / "protocol").rglob("*.py"):
        for cited in re.findall(r"docs/protocol\.md, ([\d and]+)\)", path.read_text()):
            for section in re.findall(r"\d+", cited):
                assert re.search(rf"^## {section}\. ", TEXT, re.MULTILINE), (path.name, section)


def test_a_hello_of_a_later_minor_is_still_a_hello() -> None:
    found = hello.decode(raw("messages", "hello"))
    assert isinstance(found, Hello)
    assert hello.agree(found.protocols) == 1
