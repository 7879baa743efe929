"""The hub's numbers for Prometheus, made from its status; names end in their unit."""

from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from .status import HubStatus


def metrics(status: HubStatus) -> Iterable[Metric]:
    """Every metric of a hub."""
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
        "lianzhen_hub_quarantine_records": found.held,
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
    turned = CounterMetricFamily("lianzhen_hub_turned", "Not taken", labels=["code"])
    for code, count in found.turned.items():
        turned.add_metric([code], count)
    yield turned
