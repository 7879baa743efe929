"""What operators read of a box: every lane in figures, the same in metrics, terminal and JSON."""

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from lianzhen_edge import status_text, storage, sync
from lianzhen_edge.journal.journal import Journal
from lianzhen_edge.metrics import metrics
from lianzhen_edge.status import BoxStatus
from lianzhen_edge.sync import LaneState
from lianzhen_edge.uplink.link import LinkStatus
from lianzhen_edge.uplink.traffic import Traffic
from lianzhen_protocol.identity import Epoch, NodeId
from lianzhen_protocol.lanes import Group, Lane, lane_of
from lianzhen_protocol.sender import Advanced, Cut
from lianzhen_runtime import http
from lianzhen_runtime.flow import WINDOW_SECONDS, Flow
from lianzhen_runtime.keys import FileKeys
from support.lab_fixtures import notes

NODE = NodeId("n0123456789ab")
BEGIN = 1_800_000_000_000
EPOCHS = Epoch(b"1" * 16), Epoch(b"2" * 16)
LANES = {"alarm", "audio", "consultation", "record", "vitals", "video", "preview", "study",
         "telemetry", "images"}  # fmt: skip


class Box:
    """A journal with a clock that is moved by hand, and a line that carries nothing."""

    def __init__(self) -> None:
        self.now = BEGIN
        self.journal: Journal
        self.flows: dict[Lane, Flow] = {}

    def status(self) -> BoxStatus:
        lanes = sync.record_lanes(self.journal.stream_states(), self.flows)
        lanes.append(sync.images_lane(self.journal, Flow()))
        links = [LinkStatus(group=group, state="offline") for group in Group]
        return BoxStatus(
            state="enrolled", sentence="", version="1", node=NODE, clinic="c", now_ms=self.now,
            clock_offset_ms=0, certificate_ends_ms=None, links=links, held=0, lanes=lanes,
            streams=self.journal.stream_states(), browser_fingerprint="", storage=None,
            concerns=sync.concerns("enrolled", self.now, None, links, lanes),
        )  # fmt: skip

    def lane(self, name: str) -> LaneState:
        return next(lane for lane in self.status().lanes if lane.lane == name)


@pytest.fixture
async def box(tmp_path: Path) -> AsyncIterator[Box]:
    made = Box()
    keys = FileKeys(tmp_path / "keys")
    made.journal = await Journal.open(tmp_path / "journal.db", NODE, keys, lambda: made.now)
    yield made
    await made.journal.close()


def exposition(status: BoxStatus) -> dict[tuple[str, str], float]:
    """(name, lane) of every sample that has a lane, through Prometheus's own parser."""
    body = http.exposition(metrics(status)).body
    assert isinstance(body, bytes)
    return {
        (sample.name, sample.labels["lane"]): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
        if "lane" in sample.labels
    }


async def test_a_lane_is_the_sum_of_its_streams_and_moves_with_the_hubs_word(box: Box) -> None:
    await box.journal.put("record.a", [each.entry for each in notes(3)])
    box.now += 5000
    await box.journal.put("record.b", [each.entry for each in notes(2)])
    before = box.lane("record")
    assert (before.waiting, before.oldest_ms, before.committed_ms) == (5, BEGIN, None)
    assert before.waiting_bytes > 5 * 29
    box.now += 1000
    await box.journal.advance([(box.journal.epoch, Advanced("record.a", 3, 3))])
    after = box.lane("record")
    assert (after.waiting, after.oldest_ms, after.committed_ms) == (2, BEGIN + 5000, box.now)
    assert after.waiting_bytes == pytest.approx(before.waiting_bytes * 2 / 5, abs=2)
    assert box.lane("alarm") == LaneState(lane="alarm")


async def test_prometheus_reads_every_lane_and_no_name_that_somebody_chose(box: Box) -> None:
    await box.journal.put("vitals.ward-zhang-san", [each.entry for each in notes(4)])
    box.flows[Lane.VITALS] = Flow()
    box.flows[Lane.VITALS].passed(10, 500, again=6)
    box.now += 90_000
    found = exposition(box.status())
    assert {lane for _, lane in found} == LANES
    assert found["lianzhen_edge_waiting_records", "vitals"] == 4
    assert found["lianzhen_edge_waiting_bytes", "vitals"] == box.lane("vitals").waiting_bytes
    assert found["lianzhen_edge_oldest_waiting_seconds", "vitals"] == 90
    assert found["lianzhen_edge_sent_bytes_total", "vitals"] == 500
    assert found["lianzhen_edge_resent_records_total", "vitals"] == 6
    assert found["lianzhen_edge_last_commit_timestamp_seconds", "vitals"] == 0
    assert found["lianzhen_edge_waiting_records", "alarm"] == 0


async def test_the_terminal_says_what_only_this_disk_holds_and_what_to_look_at(box: Box) -> None:
    await box.journal.put("alarm.clinic", [each.entry for each in notes(2)])
    text = "\n".join(status_text.lines(box.status()))
    assert "on this disk alone, and nowhere else" in text
    assert "2 in alarm" in text
    assert "LOOK" not in text
    box.now += 901_000
    text = "\n".join(status_text.lines(box.status()))
    assert "LOOK: alarm waits for 15 min" in text
    await box.journal.advance([(box.journal.epoch, Advanced("alarm.clinic", 2, 2))])
    text = "\n".join(status_text.lines(box.status()))
    assert "the hub has confirmed all that this box holds" in text
    assert "LOOK" not in text


async def test_the_json_is_all_of_it(box: Box) -> None:
    status = box.status()
    assert msgspec.json.decode(msgspec.json.encode(status), type=BoxStatus) == status


def test_who_should_look_and_when() -> None:
    refused = LinkStatus(group=Group.BULK, state="refused", code="revoked", since_ms=7)
    unknown = LinkStatus(group=Group.URGENT, code="peer-untrusted", since_ms=7)
    late = LaneState(lane="record", waiting=1, oldest_ms=BEGIN)
    now = BEGIN + 900_001
    found = sync.concerns("refused", now, now + 1000, [refused, unknown], [late], storage.CAUSES)
    assert [(each.code, each.what) for each in found] == [
        *((cause, "") for cause in storage.CAUSES),
        ("not-enrolled", "refused"),
        ("refused", "revoked"),
        ("stalled", "record"),
        ("hub-untrusted", ""),
        ("certificate-ends", ""),
    ]
    assert {each.code for each in found} == set(sync.CONCERNS)
    for each in found:
        assert "{" not in status_text._sentence(each, now)
    offline = LinkStatus(group=Group.BULK)
    assert sync.concerns("enrolled", now - 2, now * 2, [offline], [late]) == []


def cut(first: int, stream: str = "record.a") -> Cut:
    return Cut(stream, lane_of(stream), first, 10, 1000)


def test_what_goes_out_once_more_is_counted_as_such() -> None:
    traffic = Traffic()
    traffic.sent(cut(1), EPOCHS[0], 10, 100)
    traffic.sent(cut(11), EPOCHS[0], 5, 50)
    traffic.sent(cut(6), EPOCHS[0], 20, 200)  # 6 to 15 are known, 16 to 25 are new
    assert traffic.flows[Lane.RECORD].again == 10
    traffic.sent(cut(1), EPOCHS[1], 25, 200)  # a fork begins anew: nothing of it was sent
    flow = traffic.flows[Lane.RECORD]
    assert (flow.items, flow.size, flow.again) == (60, 550, 10)


def test_a_rate_is_of_the_last_seconds() -> None:
    now = [1000.0]
    flow = Flow(lambda: now[0])
    for _ in range(100):
        flow.passed(1, 50)
        now[0] += 0.1
    assert flow.rate == pytest.approx(500, rel=0.15)  # to the whole second
    now[0] += WINDOW_SECONDS
    assert (flow.rate, flow.size) == (0, 5000)
    assert len(flow._seconds) == 0
