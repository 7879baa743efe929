"""A box and a hub, as processes, on both databases: what is put comes through once, in order."""

import secrets
import ssl
import time
import urllib.request
from pathlib import Path

import msgspec
import pytest

from lab import BoxProgram, get_json, lab, wait_until
from lianzhen_edge.appliance import identity as disk
from lianzhen_edge.appliance.identity import Identity
from lianzhen_protocol import chain, hello, records
from lianzhen_protocol.accounts import Role
from lianzhen_protocol.frame import MAX_RECORD_BYTES, Frame, FrameCodec
from lianzhen_protocol.identity import HUB_NAME, Epoch
from lianzhen_protocol.lanes import Group
from lianzhen_protocol.records import Record, RecordSeen
from lianzhen_protocol.topics import Channel, Direction, Topic
from lianzhen_runtime import mqtt, tls
from support.consoles import hub_people
from support.lab_fixtures import Pair, item, note, notes, put, put_all, rows, settled

encode = msgspec.msgpack.encode


def test_records_come_through_once_and_in_order(pair: Pair) -> None:
    promised = put_all(pair.box, notes(150), "record.order")
    promised += put_all(pair.box, notes(150), "record.order")
    settled(pair.box, pair.ledger, 300, "record.order")
    pair.ledger.check(promised, "record.order")
    shown = pair.hub.ask("log", "--stream", "record.order", "--limit", "1000").splitlines()
    assert [line.split()[2] for line in reversed(shown)] == [key.hex() for key in promised]


def test_a_batch_that_is_put_again_keeps_its_places(pair: Pair) -> None:
    batch = notes(20)
    entries = [each.entry for each in batch]
    first = put(pair.box, entries, "record.again")
    settled(pair.box, pair.ledger, 20, "record.again")
    again = put(pair.box, entries, "record.again")
    assert [(stream, seq) for stream, seq, _ in again.body] == [
        (stream, seq) for stream, seq, _ in first.body
    ]
    assert {fresh for *_, fresh in first.body} == {True}
    assert {fresh for *_, fresh in again.body} == {False}
    last = note()
    put_all(pair.box, [last], "record.again")
    settled(pair.box, pair.ledger, 21, "record.again")
    pair.ledger.check([*(each.id for each in batch), last.id], "record.again")


def test_an_item_goes_from_stored_to_seen(pair: Pair) -> None:
    (one,) = put_all(pair.box, [note("how is the patient?")], "record.states")
    settled(pair.box, pair.ledger, 1, "record.states")
    assert item(pair.box, one)["state"] == "safe"
    shown = pair.hub.ask("open", one.hex(), "--by", "Dr Wang")
    assert "how is the patient?" in shown
    wait_until("an item that was seen", lambda: item(pair.box, one)["state"] == "seen")
    assert item(pair.box, one)["seen_by"] == "Dr Wang"
    assert pair.box.ask("item", one.hex()).startswith("seen, seen by Dr Wang")


def test_an_item_is_stored_while_there_is_no_line(pair: Pair) -> None:
    pair.hub.kill()
    wait_until("a box that knows it is offline", lambda: not pair.box.online())
    (one,) = put_all(pair.box, [note()], "record.offline")
    assert item(pair.box, one)["state"] == "stored"
    pair.hub.start().wait()
    settled(pair.box, pair.ledger, 1, "record.offline")
    assert item(pair.box, one)["state"] == "safe"


def _record(kind: str, major: int, body: object, created_ms: int = 1_790_000_000_000) -> bytes:
    return encode(Record(note().id, kind, major, 0, created_ms, encode(body)))


def _misfits() -> dict[str, bytes]:
    seen = RecordSeen(record_id=bytes(16), seen_by="nobody", seen_ms=1)
    return {
        "record-kind-unknown": _record("ward.robot\0", 1, {"text": "\0"}),
        "record-version": _record("diagnostic.note", 9, {"text": "from the future"}),
        "record-malformed": _record("diagnostic.note", 1, {"text": 7}),
        "record-misplaced": _record("record.seen", 1, seen),
    }


def test_what_the_hub_cannot_apply_is_held_and_its_neighbours_go_on(pair: Pair) -> None:
    stream, misfits, good = "record.misfits", _misfits(), notes(5)
    entries = [good[0].entry]
    for misfit, neighbour in zip(misfits.values(), good[1:], strict=True):
        entries += [misfit, neighbour.entry]
    assert put(pair.box, entries, stream).status == 201
    settled(pair.box, pair.ledger, 5, stream)
    assert pair.ledger.ids(stream) == [each.id for each in good]
    assert pair.hub.counts(stream) == {"logged": 9, "applied": 5, "held": 4}
    held = [row for row in rows(pair.hub, "quarantine") if row["stream"] == stream]
    assert {row["code"]: row["seq"] for row in held} == dict(
        zip(misfits, (2, 4, 6, 8), strict=True)
    )
    told = {code: records.decode(misfit).id for code, misfit in misfits.items()}
    wait_until(
        "authors who know why",
        lambda: all(
            (item(pair.box, identity)["rejected"] or "").startswith(f"{code}: ")
            for code, identity in told.items()
        ),
    )
    shown = pair.box.ask("item", told["record-version"].hex())
    assert "rejected: record-version: diagnostic.note 9.0: this release reads [1]" in shown


def test_a_record_is_put_right_at_the_hub_and_the_box_is_told(pair: Pair, tmp_path: Path) -> None:
    """By the console of an admin and by the command line, each once."""
    stream = "record.quarantine"
    misfits = [_record("diagnostic.note", 1, {"text": number}) for number in range(3)]
    assert put(pair.box, misfits, stream).status == 201
    ids = [records.decode(each).id for each in misfits]
    wait_until("authors who know why", lambda: all(item(pair.box, key)["rejected"] for key in ids))
    held = [row for row in rows(pair.hub, "quarantine") if row["stream"] == stream]
    places = {row["seq"]: row["place"] for row in held}
    admin = hub_people(pair.hub).of(Role.ADMIN).caller
    shown = admin.get(f"/quarantine/{places[1]}")
    assert (shown.status, shown.body["held"]["body"]) == (200, {"text": 0})
    page = admin.get(f"/quarantine/{places[1]}", Accept="text/html").body
    assert all(word in page for word in ("record-malformed", "diagnostic.note 1.0", "<textarea"))
    said = {"why": "a number for a text", "body": '{"text": "nought"}'}
    reply = admin.post(f"/quarantine/{places[1]}/release", {"why": "as it is"})
    assert (reply.status, reply.body["code"]) == (409, "record-malformed")
    assert admin.post(f"/quarantine/{places[1]}/release", said).status == 200
    assert admin.post(f"/quarantine/{places[1]}/release", said).status == 404

    body = tmp_path / "body.json"
    body.write_text('{"text": "one"}')
    decided = ("--by", "Admin Li", "--why", "a number for a text")
    assert '"text": 1' in pair.hub.ask("quarantine", "show", places[2], "--by", "Admin Li")
    pair.hub.ask("quarantine", "release", places[2], *decided, "--body", str(body))
    pair.hub.ask("quarantine", "dismiss", places[3], *decided)
    settled(pair.box, pair.ledger, 2, stream)
    assert sorted(pair.ledger.ids(stream)) == sorted(ids[:2])
    assert '"one"' in pair.hub.ask("open", ids[1].hex(), "--by", "Dr Wang")
    wait_until(
        "a box that knows what became of them",
        lambda: (
            [item(pair.box, key)["rejected"] for key in ids]
            == [None, None, "dismissed: a number for a text"]
        ),
    )
    shown = admin.get(f"/quarantine/{places[2]}").body["held"]
    assert (shown["decided_by"], shown["applied"]) == ("Admin Li", {"text": "one"})


@pytest.mark.parametrize("created_ms", [-(2**63), 2**64 - 1], ids=["before time", "after time"])
def test_a_time_that_no_database_holds_is_no_record(pair: Pair, created_ms: int) -> None:
    answer = put(pair.box, [_record("diagnostic.note", 1, {"text": ""}, created_ms)])
    assert (answer.status, answer.body["code"]) == (400, "record-malformed")


def test_an_oversize_record_is_refused_in_one_sentence(pair: Pair) -> None:
    answer = put(pair.box, [note().entry, note("x" * MAX_RECORD_BYTES).entry], "record.large")
    assert (answer.status, answer.body["code"]) == (413, "record-too-large")
    assert answer.body["detail"].count("\n") == 0
    largest = note("x" * (MAX_RECORD_BYTES - 100))
    promised = put_all(pair.box, [note(), largest, note()], "record.large")
    settled(pair.box, pair.ledger, 3, "record.large")
    pair.ledger.check(promised, "record.large")


@pytest.mark.parametrize("stream", ["", "Record", "nowhere.x", "record/x", "record." + "x" * 60])
def test_a_stream_outside_the_lanes_is_refused(pair: Pair, stream: str) -> None:
    answer = put(pair.box, [note().entry], stream)
    assert (answer.status, answer.body["code"]) == (400, "topic-malformed")


# -- somebody with the box's own certificate


def _identity(box: BoxProgram) -> Identity:
    found = disk.load(box.state / "identity")
    assert found is not None
    return found


def _context(who: Identity) -> ssl.SSLContext:
    pair = (who.certificate_file, who.key_file)
    return tls.client_context(who.ca, time.time, HUB_NAME, pair)


def _hello(who: Identity, **changes: object) -> bytes:
    spoken = hello.Hello(
        session=secrets.token_bytes(16),
        group=Group.BULK,
        protocols=hello.PROTOCOLS,
        epoch=secrets.token_bytes(16),
        parentage=None,
        instance=secrets.token_bytes(16),
        serial=who.serial,
        software="0",
        now_ms=0,
        streams=(),
        down=(),
    )
    return hello.encode(msgspec.structs.replace(spoken, **changes))


def poison(who: Identity) -> list[tuple[Channel, str | None, bytes]]:
    """Everything that a box may publish and never should."""
    epoch = Epoch(secrets.token_bytes(16))
    before = chain.genesis(who.node, epoch, "study.x")
    frame = FrameCodec().encode(Frame(epoch, "study.x", 1, before, (note().entry,)))
    nested = b"\x91" * 5000 + b"\xc0"
    messages = [b"", b"\0", nested, b"\xff" * 1000, encode({"type": "hello"}), encode([1])]
    messages += [
        hello.encode(hello.SayHello()),
        hello.encode(hello.Signed(message=b"", signature=b"")),
    ]
    odd = {"software": "a\0b"}, {"parentage": hello.Parentage(bytes(16), "\0")}, {"serial": "\0"}
    found: list[tuple[Channel, str | None, bytes]] = [
        (channel, None, message)
        for channel in (Channel.HELLO, Channel.ACK, Channel.PRESENCE)
        for message in messages
    ]
    found += [(Channel.HELLO, None, _hello(who, **change)) for change in odd]
    found += [
        (Channel.STREAM, "study.x", wire)
        for wire in (b"", b"LZ", frame, frame[:-1], frame[:63] + nested, frame + b"\0")
    ]
    found += [(Channel.STREAM, name, frame) for name in ("study.y", "NO", "nowhere")]
    return found


async def test_poison_under_the_boxs_own_name_does_not_stop_the_hub(pair: Pair) -> None:
    who = _identity(pair.box)
    pid = pair.hub.pid
    address = mqtt.Address(who.mqtt_host, who.mqtt_port)
    async with mqtt.session(address, "poison", _context(who), lambda *_: None) as line:
        for channel, stream, payload in poison(who):
            line.publish(str(Topic(who.node, Direction.UP, channel, stream)), payload)
        line.publish(f"lz/1/{who.node}/up/stream", b"x")
        line.publish("lz/1/nobody/up/hello", b"x")
        await line.drained()
    promised = put_all(pair.box, notes(10), "record.after-poison")
    settled(pair.box, pair.ledger, 10, "record.after-poison")
    pair.ledger.check(promised, "record.after-poison")
    wait_until("a healthy hub", pair.hub.healthy)
    assert pair.hub.pid == pid
    assert pair.hub.running()


async def test_a_frame_that_the_box_never_wrote_forks_it_and_loses_nothing(pair: Pair) -> None:
    """Whoever has the card can write in its name; the box must notice and keep its own."""
    who = _identity(pair.box)
    promised = put_all(pair.box, notes(5), "record.forged")
    settled(pair.box, pair.ledger, 5, "record.forged")
    epoch = pair.ledger.places("record.forged")[-1][0]
    entries = tuple(note("forged").entry for _ in range(3))
    # The first frames of a stream that the box has not begun.
    before = chain.genesis(who.node, Epoch(epoch), "record.forged-new")
    frame = Frame(Epoch(epoch), "record.forged-new", 1, before, entries)
    address = mqtt.Address(who.mqtt_host, who.mqtt_port)
    async with mqtt.session(address, "forger", _context(who), lambda *_: None) as line:
        topic = Topic(who.node, Direction.UP, Channel.STREAM, "record.forged-new")
        line.publish(str(topic), FrameCodec().encode(frame))
        await line.drained()
        wait_until("a forgery that was taken", lambda: pair.ledger.count("record.forged-new") == 3)
    own = put_all(pair.box, notes(2), "record.forged-new")
    settled(pair.box, pair.ledger, 5, "record.forged-new")
    assert set(own) < set(pair.ledger.ids("record.forged-new"))
    assert pair.ledger.ids("record.forged") == promised
    assert "forked" in {row["code"] for row in rows(pair.hub, "notices")}


# -- presence and probes


def test_a_killed_box_is_offline_by_its_last_will(pair: Pair) -> None:
    def online() -> list[str]:
        (row,) = [row for row in rows(pair.hub, "nodes") if row["node"] == pair.node]
        return list(row["online"])

    wait_until("a box that is online", lambda: online() == ["bulk", "urgent"])
    pair.box.kill()
    wait_until("a box that is offline", lambda: online() == [], 15)
    pair.box.start().wait()
    wait_until("a box that is online again", lambda: online() == ["bulk", "urgent"])


def _metrics(port: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    pairs = (line.rpartition(" ") for line in lines if not line.startswith("#"))
    return {name: float(value) for name, _, value in pairs}


def test_health_and_metrics_of_both(pair: Pair) -> None:
    promised = put_all(pair.box, notes(7), "record.metrics")
    settled(pair.box, pair.ledger, len(promised), "record.metrics")
    at_box = get_json(f"http://127.0.0.1:{pair.box.status_port}/health")
    assert (at_box["ok"], at_box["program"], at_box["node"]) == (True, "lianzhen-edge", pair.node)
    at_hub = get_json(f"http://127.0.0.1:{pair.hub.status_port}/health")
    assert (at_hub["ok"], at_hub["broker"], at_hub["listening"]) == (True, True, True)
    box, hub = _metrics(pair.box.status_port), _metrics(pair.hub.status_port)
    assert box['lianzhen_edge_waiting_records{lane="record"}'] == 0
    assert box['lianzhen_edge_sent_records_total{lane="record"}'] >= 7
    assert box['lianzhen_edge_last_commit_timestamp_seconds{lane="record"}'] > 1_700_000_000
    assert box['lianzhen_edge_online{group="urgent"}'] == 1
    assert hub["lianzhen_hub_records_total"] >= 7
    assert hub["lianzhen_hub_applied_total"] >= 7
    assert hub["lianzhen_hub_broker_up"] == 1
    backend = {key for key in hub if key.startswith("lianzhen_hub_info")}
    assert len(backend) == 1


def test_two_boxes_stay_apart(pair: Pair) -> None:
    with lab() as elsewhere:
        other = elsewhere.box("BOX-2").start()
        node = other.enrol(pair.hub)
        mine, theirs = notes(30), notes(40)
        put_all(pair.box, mine, "record.apart")
        put_all(other, theirs, "record.apart")
        settled(pair.box, pair.ledger, 70, "record.apart")
        settled(other, pair.ledger, 70, "record.apart")
        assert pair.ledger.ids("record.apart", pair.node) == [each.id for each in mine]
        assert pair.ledger.ids("record.apart", node) == [each.id for each in theirs]
        assert node != pair.node


def test_a_note_can_be_read_at_the_hub(pair: Pair) -> None:
    (one,) = put_all(pair.box, [note("血压 120/80")], "consultation.note")
    settled(pair.box, pair.ledger, 1, "consultation.note")
    shown = msgspec.json.decode(pair.hub.ask("open", one.hex(), "--by", "王医生"))
    assert shown["body"] == {"text": "血压 120/80"}
    assert shown["about"]["kind"] == "diagnostic.note"
