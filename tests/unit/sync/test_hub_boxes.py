"""What an admin reads of the fleet: each box and lane, who needs a look, and as metrics."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Connection

from lianzhen_hub.admin import boxes
from lianzhen_hub.admin.boxes import NodeView
from lianzhen_hub.fleet import meanings
from lianzhen_hub.fleet.concerns import (
    CONCERNS,
    FORKED_MS,
    SILENT_MS,
    STALLED_MS,
    Standing,
    concerns,
)
from lianzhen_hub.ingest.downlink import Outbox
from lianzhen_hub.ingest.status import IngestStatus
from lianzhen_hub.ingest.traffic import Traffic
from lianzhen_hub.ingest.vault import Vault
from lianzhen_hub.metrics import metrics
from lianzhen_hub.page import HubPage
from lianzhen_hub.status import Health, HubStatus
from lianzhen_hub.store import tables
from lianzhen_hub.store.database import Database, sqlite_url
from lianzhen_protocol.identity import NodeId, RecordId
from lianzhen_protocol.records import Record
from lianzhen_protocol.telemetry import LaneReport, LanesReported
from lianzhen_runtime import http
from lianzhen_runtime.keys import FileKeys

NOW = 1_800_000_000_000
NODES = tuple(f"n000000000{number:03d}" for number in range(4))
WELL = Standing(
    enrolled_ms=NOW - 10**9, heard_ms=NOW, online=True, oldest_ms=None, forked_ms=None, held=0
)


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with Database(sqlite_url(tmp_path / "hub.db")) as made:
        await made.write(_enrolled)
        yield made


def _enrolled(db: Connection) -> None:
    rows = [
        {"id": node, "box": node.upper(), "clinic": "青山", "status": "active", "enrolled_ms": at}
        for at, node in enumerate(NODES)
    ]
    db.execute(tables.node.insert(), rows)


def mark(db: Connection, node: str, stream: str, at_ms: int | None) -> None:
    row = {"node": node, "epoch": b"e" * 16, "stream": stream, "committed": 1, "hash": b"",
           "safe": 1, "committed_ms": at_ms}  # fmt: skip
    db.execute(tables.mark.insert(), [row])


async def report(
    database: Database, tmp_path: Path, node: str, created_ms: int, *lanes: LaneReport
) -> None:
    vault = Vault(FileKeys(tmp_path / "keys"), database)

    def work(db: Connection) -> None:
        page = HubPage(db, vault, Outbox(vault), NOW, node)
        record = Record(RecordId(bytes(16)), "telemetry.lanes", 1, 0, created_ms, b"")
        meanings.reported(page, record, LanesReported(lanes=lanes))

    await database.write(work)


async def seen(database: Database, traffic: Traffic | None = None) -> dict[str, NodeView]:
    rates = (traffic or Traffic()).rates()
    found = await database.read(lambda db: boxes.nodes(db, rates, NOW))
    return {box.node: box for box in found}


async def test_a_box_is_what_it_said_and_what_the_hub_knows(
    database: Database, tmp_path: Path
) -> None:
    traffic = Traffic()
    traffic.received(NodeId(NODES[0]), "vitals.readings", 5000)
    old = LaneReport("record", 9, 900, NOW - 5, 0, 1, 0)
    await report(database, tmp_path, NODES[0], NOW - 9, old)
    lanes = (
        LaneReport("vitals", 7, 700, NOW - 50, 4000, 2, 0),
        LaneReport("images", 2, 10**9, NOW - 60, 0, 0, 0),
    )
    await report(database, tmp_path, NODES[0], NOW - 5, *lanes)

    def more(db: Connection) -> None:
        mark(db, NODES[0], "vitals.readings", NOW - 40)
        mark(db, NODES[0], "record.people", NOW - 70)
        mark(db, NODES[0], "record.audit", None)  # of before this release

    await database.write(more)
    box = (await seen(database, traffic))[NODES[0]]
    assert [lane.lane for lane in box.lanes] == ["record", "vitals", "images"]
    record, vitals, images = box.lanes
    assert (record.waiting, record.committed_ms) == (0, NOW - 70)  # the last report counts
    assert (vitals.waiting, vitals.again, vitals.bytes_per_s) == (7, 2, 500.0)
    assert (images.waiting_bytes, images.committed_ms) == (10**9, None)
    assert (box.waiting, box.waiting_bytes, box.told_ms) == (9, 10**9 + 700, NOW - 5)
    assert (box.oldest_ms, box.last_received_ms) == (NOW - 60, NOW - 40)
    assert box.concerns == ["never"]  # no hello was ever written down here


async def test_a_release_may_report_lanes_that_this_hub_does_not_know(
    database: Database, tmp_path: Path
) -> None:
    await report(database, tmp_path, NODES[1], NOW, LaneReport("newlane", 1, 1, NOW, 0, 0, 0))
    assert [lane.lane for lane in (await seen(database))[NODES[1]].lanes] == ["newlane"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, []),
        ({"heard_ms": None, "online": False}, ["never"]),
        ({"heard_ms": None, "online": False, "enrolled_ms": NOW - 1000}, []),  # just enrolled
        ({"forked_ms": NOW - 1000}, ["forked"]),
        ({"forked_ms": NOW - FORKED_MS}, []),
        ({"oldest_ms": NOW - STALLED_MS}, []),
        ({"oldest_ms": NOW - STALLED_MS - 1}, ["stalled"]),
        ({"online": False, "heard_ms": NOW - SILENT_MS}, []),
        ({"online": False, "heard_ms": NOW - SILENT_MS - 1}, ["silent"]),
        ({"online": True, "heard_ms": NOW - 9 * SILENT_MS}, []),  # on without a break
        ({"held": 1, "oldest_ms": 1}, ["stalled", "quarantine"]),
    ],
)
def test_who_needs_a_look(change: dict[str, int], expected: list[str]) -> None:
    assert concerns(WELL._replace(**change), NOW) == expected  # type: ignore[arg-type]


async def test_metrics_have_a_bounded_number_of_boxes_and_the_pressing_ones_first(
    database: Database, tmp_path: Path
) -> None:
    for number, node in enumerate(NODES):
        lane = LaneReport("record", number, 100 * number, NOW, 0, 0, 0)
        await report(database, tmp_path, node, NOW, lane)
    health = Health(ok=True, program="", version="", pin="", broker=True, listening=True)
    status = HubStatus(
        health=health, backend="sqlite", url="", sessions=0, ingest=IngestStatus(), crl_age_s=0,
        broker_pid=1,
    )  # fmt: skip
    traffic = Traffic()
    traffic.received(NodeId(NODES[0]), "alarm.clinic", 77)
    traffic.received(NodeId(NODES[0]), "", 1000)  # poison
    found = list((await seen(database)).values())
    body = http.exposition(metrics(status, found, traffic.lanes, 2)).body
    assert isinstance(body, bytes)
    samples = [
        sample
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    ]
    assert {sample.labels["node"] for sample in samples if "node" in sample.labels} == set(
        NODES[2:]
    )
    values = {(one.name, *sorted(one.labels.values())): one.value for one in samples}
    assert values["lianzhen_hub_received_bytes_total", "alarm"] == 77
    assert values["lianzhen_hub_boxes", "offline"] == len(NODES)
    assert values["lianzhen_hub_box_concerns", "never"] == len(NODES)
    assert values["lianzhen_hub_box_waiting_records", NODES[3], "record"] == 3
    codes = {one.labels["code"] for one in samples if one.name == "lianzhen_hub_box_concerns"}
    assert codes == set(CONCERNS)


def test_a_box_that_is_counted_goes_on_being_counted_in_a_full_table(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("lianzhen_hub.ingest.traffic._MOST_BOXES", 1)
    traffic = Traffic()
    for node in (NODES[0], NODES[1], NODES[0]):
        traffic.received(NodeId(node), "alarm.clinic", 100)
    assert traffic.rates() == {(NODES[0], "alarm"): 20}
