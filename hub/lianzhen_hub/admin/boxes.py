"""Every box with its lanes: what it said of itself, and what the hub knows better."""

from collections.abc import Mapping
from typing import Any

import msgspec
from sqlalchemy import Connection, func, select

from lianzhen_hub.fleet.concerns import Standing, concerns
from lianzhen_hub.store import tables
from lianzhen_protocol.lanes import Lane, lane_of

_ORDER = {lane.word: int(lane) for lane in Lane}
Rates = Mapping[tuple[str, str], float]
"""Bytes a second that the hub gets, by (node, lane)."""


class LaneView(msgspec.Struct, frozen=True, kw_only=True):
    """A lane of a box. What waits is the box's last word; the last commit is the hub's own."""

    lane: str
    waiting: int = 0
    waiting_bytes: int = 0
    oldest_ms: int | None = None
    again: int = 0
    bytes_per_s: float = 0.0
    held: int = 0
    committed_ms: int | None = None


class NodeView(msgspec.Struct, frozen=True, kw_only=True):
    """A box: who it is, whether it is there, what waits on it, what waits for an admin."""

    node: str
    box: str
    clinic: str
    status: str
    enrolled_ms: int
    online: list[str]
    software: str | None
    waiting_for_approval: bool
    last_received_ms: int | None
    told_ms: int | None
    """When the box made its last report; None: it made none."""
    waiting: int
    waiting_bytes: int
    oldest_ms: int | None
    held: int
    concerns: list[str]
    lanes: list[LaneView]


def nodes(connection: Connection, rates: Rates, now_ms: int) -> list[NodeView]:
    """Every box that was ever enrolled."""
    presence = _presence(connection)
    lanes, told = _lanes(connection, rates)
    forks = _by_node(
        connection,
        select(tables.epoch.c.node, func.max(tables.epoch.c.seen_ms))
        .where(tables.epoch.c.parent.is_not(None))
        .group_by(tables.epoch.c.node),
    )
    approval = tables.approval.c
    asks = select(approval.node, func.count()).where(approval.state == "waiting")
    waiting = _by_node(connection, asks.group_by(approval.node))
    order = tables.node.c.enrolled_ms
    return [
        _view(
            row,
            presence.get(row.id, []),
            sorted(lanes.get(row.id, {}).values(), key=lambda x: _ORDER.get(x.lane, len(_ORDER))),
            told.get(row.id),
            forks.get(row.id),
            row.id in waiting,
            now_ms,
        )
        for row in connection.execute(select(tables.node).order_by(order))
    ]


def _view(
    row: Any,
    presence: list[Any],
    lanes: list[LaneView],
    told_ms: int | None,
    forked_ms: int | None,
    waits_for_approval: bool,
    now_ms: int,
) -> NodeView:
    online = sorted(each.session_group for each in presence if each.state == "online")
    oldest_ms = min((lane.oldest_ms for lane in lanes if lane.oldest_ms is not None), default=None)
    held = sum(lane.held for lane in lanes)
    standing = Standing(
        enrolled_ms=row.enrolled_ms,
        heard_ms=max((each.since_ms for each in presence), default=None),
        online=bool(online),
        oldest_ms=oldest_ms,
        forked_ms=forked_ms,
        held=held,
    )
    commits = [lane.committed_ms for lane in lanes if lane.committed_ms is not None]
    return NodeView(
        node=row.id,
        box=row.box,
        clinic=row.clinic,
        status=row.status,
        enrolled_ms=row.enrolled_ms,
        online=online,
        software=presence[-1].software if presence else None,
        waiting_for_approval=waits_for_approval,
        last_received_ms=max(commits, default=None),
        told_ms=told_ms,
        waiting=sum(lane.waiting for lane in lanes),
        waiting_bytes=sum(lane.waiting_bytes for lane in lanes),
        oldest_ms=oldest_ms,
        held=held,
        concerns=concerns(standing, now_ms) if row.status == "active" else [],
        lanes=lanes,
    )


def _presence(connection: Connection) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for row in connection.execute(select(tables.presence)):
        found.setdefault(row.node, []).append(row)
    return found


def _lanes(
    connection: Connection, rates: Rates
) -> tuple[dict[str, dict[str, LaneView]], dict[str, int]]:
    """By node and lane; and when each node told of its own."""
    fields: dict[tuple[str, str], dict[str, Any]] = {}
    told: dict[str, int] = {}
    for row in connection.execute(select(tables.box_lane)):
        told[row.node] = row.told_ms
        fields[row.node, row.lane] = {
            name: getattr(row, name) for name in ("waiting", "waiting_bytes", "oldest_ms", "again")
        }
    mark, held = tables.mark.c, tables.quarantine.c
    commits = select(mark.node, mark.stream, func.max(mark.committed_ms)).group_by(
        mark.node, mark.stream
    )
    for node, stream, at_ms in connection.execute(commits):
        lane = fields.setdefault((node, lane_of(stream).word), {})
        lane["committed_ms"] = max(lane.get("committed_ms") or 0, at_ms or 0) or None
    poison = (
        select(held.node, held.stream, func.count())
        .where(held.state == tables.HELD)
        .group_by(held.node, held.stream)
    )
    for node, stream, count in connection.execute(poison):
        lane = fields.setdefault((node, lane_of(stream).word), {})
        lane["held"] = lane.get("held", 0) + count
    found: dict[str, dict[str, LaneView]] = {}
    for (node, word), values in fields.items():
        rate = rates.get((node, word), 0.0)
        found.setdefault(node, {})[word] = LaneView(lane=word, bytes_per_s=rate, **values)
    return found, told


def _by_node(connection: Connection, query: Any) -> dict[str, int]:
    return {row[0]: row[1] for row in connection.execute(query)}
