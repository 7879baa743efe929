"""The box's numbers for Prometheus, made from its status; names end in their unit."""

from collections.abc import Callable, Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from .status import BoxStatus
from .storage import StorageState
from .sync import CONCERNS, LaneState


def metrics(status: BoxStatus) -> Iterable[Metric]:
    """Every metric of a box."""
    about = GaugeMetricFamily("lianzhen_edge_info", "Identity", labels=["version", "node"])
    about.add_metric([status.version, status.node or ""], 1)
    yield about
    yield GaugeMetricFamily("lianzhen_edge_enrolled", "Enrolled", int(status.node is not None))
    offset = status.clock_offset_ms / 1000
    yield GaugeMetricFamily("lianzhen_edge_clock_offset_seconds", "Ahead of the system", offset)
    if status.certificate_ends_ms is not None:
        left = (status.certificate_ends_ms - status.now_ms) / 1000
        yield GaugeMetricFamily("lianzhen_edge_certificate_left_seconds", "Until it ends", left)
    yield from _lanes(status)
    yield _concerns(status)
    yield from _links(status)
    if status.storage is not None:
        yield from _storage(status.storage)
    held = "Records from the hub that this release could not apply"
    yield GaugeMetricFamily("lianzhen_edge_held_records", held, status.held)


_Figure = Callable[[LaneState], float]


def _lanes(status: BoxStatus) -> Iterable[Metric]:
    """Labels are the protocol's lanes and ``images``: as many on the busiest box."""

    def age(lane: LaneState) -> float:
        return 0.0 if lane.oldest_ms is None else max(0.0, (status.now_ms - lane.oldest_ms) / 1000)

    gauges: dict[str, tuple[str, _Figure]] = {
        "waiting_records": ("Not committed at the hub", lambda lane: lane.waiting),
        "waiting_bytes": ("On this disk alone, sealed", lambda lane: lane.waiting_bytes),
        "oldest_waiting_seconds": ("Age of the oldest that waits; 0: none", age),
        "rejected_records": ("The hub could not apply, or this disk lost", lambda x: x.rejected),
        "last_commit_timestamp_seconds": (
            "When the hub last confirmed anything; 0: never",
            lambda lane: (lane.committed_ms or 0) / 1000,
        ),
    }
    counters: dict[str, tuple[str, _Figure]] = {
        "sent_records": ("Handed to the line, repetitions included", lambda lane: lane.sent),
        "sent_bytes": ("Of frames, or of images that the hub took", lambda lane: lane.sent_bytes),
        "resent_records": ("Handed to the line once more", lambda lane: lane.again),
    }
    for kind, families in ((GaugeMetricFamily, gauges), (CounterMetricFamily, counters)):
        for name, (text, figure) in families.items():
            family = kind(f"lianzhen_edge_{name}", text, labels=["lane"])
            for lane in status.lanes:
                family.add_metric([lane.lane], figure(lane))
            yield family


def _concerns(status: BoxStatus) -> Metric:
    family = GaugeMetricFamily(
        "lianzhen_edge_concerns", "What a person should look at", labels=["code"]
    )
    for code in CONCERNS:
        family.add_metric([code], sum(each.code == code for each in status.concerns))
    return family


def _storage(state: StorageState) -> Iterable[Metric]:
    used = GaugeMetricFamily("lianzhen_edge_stored_bytes", "On the disk", labels=["share"])
    quota = GaugeMetricFamily("lianzhen_edge_quota_bytes", "0: the disk", labels=["share"])
    full = GaugeMetricFamily("lianzhen_edge_full", "Takes no more", labels=["share"])
    for share in state.shares:
        used.add_metric([share.name], share.used)
        quota.add_metric([share.name], share.quota)
        full.add_metric([share.name], int(share.full))
    free = GaugeMetricFamily("lianzhen_edge_disk_free_bytes", "For everybody", state.free)
    return used, quota, full, free


def _links(status: BoxStatus) -> Iterable[Metric]:
    online = GaugeMetricFamily("lianzhen_edge_online", "Session is up", labels=["group"])
    flight = GaugeMetricFamily("lianzhen_edge_in_flight_bytes", "Unacknowledged", labels=["group"])
    trip = GaugeMetricFamily("lianzhen_edge_round_trip_seconds", "To commit", labels=["group"])
    sent = CounterMetricFamily("lianzhen_edge_frame_bytes", "Bytes on the line", labels=["group"])
    timeouts = CounterMetricFamily("lianzhen_edge_timeouts", "Sent again", labels=["group"])
    forks = CounterMetricFamily("lianzhen_edge_forks", "Histories differed", labels=["group"])
    for link in status.links:
        online.add_metric([link.group], int(link.state == "online"))
        flight.add_metric([link.group], link.in_flight_bytes)
        trip.add_metric([link.group], link.round_trip_s or 0.0)
        sent.add_metric([link.group], link.frame_bytes)
        timeouts.add_metric([link.group], link.timeouts)
        forks.add_metric([link.group], link.forks)
    return online, flight, trip, sent, timeouts, forks
