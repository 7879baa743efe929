"""The box's numbers for Prometheus, made from its status; names end in their unit."""

from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from .status import BoxStatus


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
    yield from _streams(status)
    yield from _links(status)
    held = "Records from the hub that this release could not apply"
    yield GaugeMetricFamily("lianzhen_edge_held_records", held, status.held)


def _streams(status: BoxStatus) -> Iterable[Metric]:
    waiting = GaugeMetricFamily(
        "lianzhen_edge_waiting_records", "Not yet committed at the hub", labels=["stream"]
    )
    unsafe = GaugeMetricFamily(
        "lianzhen_edge_unsafe_records", "Not yet safe, kept here", labels=["stream"]
    )
    oldest = GaugeMetricFamily(
        "lianzhen_edge_oldest_waiting_seconds", "Age of the oldest waiting", labels=["stream"]
    )
    for stream in status.streams:
        waiting.add_metric([stream.stream], stream.last - stream.committed)
        unsafe.add_metric([stream.stream], stream.last - stream.safe)
        age = 0.0 if stream.oldest_ms is None else (status.now_ms - stream.oldest_ms) / 1000
        oldest.add_metric([stream.stream], age)
    return waiting, unsafe, oldest


def _links(status: BoxStatus) -> Iterable[Metric]:
    online = GaugeMetricFamily("lianzhen_edge_online", "Session is up", labels=["group"])
    flight = GaugeMetricFamily("lianzhen_edge_in_flight_bytes", "Unacknowledged", labels=["group"])
    trip = GaugeMetricFamily("lianzhen_edge_round_trip_seconds", "To commit", labels=["group"])
    sent = CounterMetricFamily("lianzhen_edge_frame_bytes", "Bytes on the line", labels=["group"])
    records = CounterMetricFamily("lianzhen_edge_sent_records", "Records sent", labels=["group"])
    timeouts = CounterMetricFamily("lianzhen_edge_timeouts", "Sent again", labels=["group"])
    forks = CounterMetricFamily("lianzhen_edge_forks", "Histories differed", labels=["group"])
    for link in status.links:
        online.add_metric([link.group], int(link.state == "online"))
        flight.add_metric([link.group], link.in_flight_bytes)
        trip.add_metric([link.group], link.round_trip_s or 0.0)
        sent.add_metric([link.group], link.frame_bytes)
        records.add_metric([link.group], link.records)
        timeouts.add_metric([link.group], link.timeouts)
        forks.add_metric([link.group], link.forks)
    return online, flight, trip, sent, records, timeouts, forks
