"""The hub's numbers for Prometheus, made from its status; names end in their unit."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from lianzhen_protocol.lanes import Lane
from lianzhen_runtime.flow import Flow

from .admin.boxes import LaneView, NodeView
from .fleet.concerns import CONCERNS
from .status import HubStatus


def metrics(
    status: HubStatus, boxes: Sequence[NodeView], lanes: Mapping[Lane, Flow], most: int
) -> Iterable[Metric]:
    """Every metric of a hub; ``most`` boxes have their own, those that need a look first."""
    about = GaugeMetricFamily("lianzhen_hub_info", "Version", labels=["version", "backend"])
    about.add_metric([status.health.version, status.backend], 1)
    yield about
    found = status.ingest
    gauges = {
        "lianzhen_hub_sessions": status.sessions,
        "lianzhen_hub_queue_bytes": found.queued_bytes,
        "lianzhen_hub_crl_age_seconds": status.crl_age_s,
        "lianzhen_hub_broker_up": int(status.health.broker),
        "lianzhen_hub_listening": int(status.health.listening),
        "lianzhen_hub_image_store_up": int(status.image_store),
        "lianzhen_hub_quarantine_records": found.held,
        "lianzhen_hub_backup_timestamp_seconds": status.backup_ms / 1000,
    }
    for name, value in gauges.items():
        yield GaugeMetricFamily(name, name.removeprefix("lianzhen_hub_"), value)
    counters = {
        "lianzhen_hub_records": found.records,
        "lianzhen_hub_frames": found.frames,
        "lianzhen_hub_commits": found.transactions,
        "lianzhen_hub_dropped_frames": found.dropped_frames,
        "lianzhen_hub_applied": found.applied,
        "lianzhen_hub_quarantined": found.quarantined,
    }
    for name, value in counters.items():
        yield CounterMetricFamily(name, name.removeprefix("lianzhen_hub_"), value)
    strays = GaugeMetricFamily(
        "lianzhen_hub_rows_without_month", "PostgreSQL; 10000: that many or more", labels=["table"]
    )
    for name, count in status.strays.items():
        strays.add_metric([name], count)
    yield strays
    turned = CounterMetricFamily("lianzhen_hub_turned", "Not taken", labels=["code"])
    for code, count in found.turned.items():
        turned.add_metric([code], count)
    yield turned
    received = CounterMetricFamily("lianzhen_hub_received_bytes", "Frames", labels=["lane"])
    frames = CounterMetricFamily("lianzhen_hub_received_frames", "Frames", labels=["lane"])
    for lane in Lane:
        flow = lanes.get(lane, Flow())
        received.add_metric([lane.word], flow.size)
        frames.add_metric([lane.word], flow.items)
    yield from (received, frames)
    yield from _fleet(boxes)
    yield from _boxes(sorted(boxes, key=_pressing)[:most])


def _fleet(boxes: Sequence[NodeView]) -> Iterable[Metric]:
    states = GaugeMetricFamily("lianzhen_hub_boxes", "Boxes", labels=["state"])
    found = Counter(
        box.status if box.status != "active" else "online" if box.online else "offline"
        for box in boxes
    )
    for state in ("online", "offline", "revoked"):
        states.add_metric([state], found[state])
    pressing = GaugeMetricFamily("lianzhen_hub_box_concerns", "To be looked at", labels=["code"])
    concerned = Counter(code for box in boxes for code in box.concerns)
    for code in CONCERNS:
        pressing.add_metric([code], concerned[code])
    return states, pressing


def _pressing(box: NodeView) -> tuple[bool, int, str]:
    return not box.concerns, -box.waiting_bytes, box.node


def _boxes(boxes: Iterable[NodeView]) -> Iterable[Metric]:
    now = time.time()
    figures: dict[str, tuple[str, Callable[[LaneView], float]]] = {
        "waiting_records": ("On the box alone, by its last word", lambda lane: lane.waiting),
        "waiting_bytes": ("The same in bytes", lambda lane: lane.waiting_bytes),
        "oldest_waiting_seconds": (
            "Age of the oldest of it; 0: none",
            lambda lane: max(0.0, now - lane.oldest_ms / 1000) if lane.oldest_ms else 0.0,
        ),
        "resent_records": ("Sent once more since the box began", lambda lane: lane.again),
        "received_bytes_per_second": ("Over the last 10 s", lambda lane: lane.bytes_per_s),
        "quarantined_records": ("Held here", lambda lane: lane.held),
        "last_commit_timestamp_seconds": (
            "0: never",
            lambda lane: (lane.committed_ms or 0) / 1000,
        ),
    }
    listed = list(boxes)
    for name, (text, figure) in figures.items():
        family = GaugeMetricFamily(f"lianzhen_hub_box_{name}", text, labels=["node", "lane"])
        for box in listed:
            for lane in box.lanes:
                family.add_metric([box.node, lane.lane], figure(lane))
        yield family
