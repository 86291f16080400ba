"""The health of a gate for Prometheus: `pip install 'faregate[metrics]'`.

    REGISTRY.register(GateCollector(gate))

The numbers are those of `gate.health()` at each scrape, of this process alone. If an API runs as
several processes, each serves its own by `serve`, and Prometheus scrapes each. The multiprocess
mode of the client is not used, since each request would write to files.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from faregate.domain.errors import ConfigurationError
from faregate.domain.health import BreakerState, CallCounts, Health, JournalState
from faregate.gate import Gate
from faregate.sync import SyncGate

__all__ = ["GateCollector", "serve"]


def serve(collector: Collector, ports: Iterable[int], host: str = "127.0.0.1") -> int:
    """Serve the metrics of a collector, from a thread, until the process ends.

    Args:
        collector: The collector, whose metrics are the only ones.
        ports: The ports, of which the first free one is used. Several processes with the same ports
            each find their own; scrape all of them.
        host: The address to listen on.

    Returns:
        The port.

    Raises:
        ConfigurationError: No port is free.
    """
    registry = CollectorRegistry()
    registry.register(collector)
    for port in ports:
        with suppress(OSError):
            start_http_server(port, host, registry)
            return port
    raise ConfigurationError(f"no metrics: none of the ports that were given is free on {host}")


def labelled(
    metric: CounterMetricFamily | GaugeMetricFamily, values: Mapping[str, float]
) -> Metric:
    """Add the values of a metric with one label."""
    for label, value in values.items():
        metric.add_metric([label], value)
    return metric


class GateCollector(Collector):
    """Collects the health of a gate."""

    def __init__(self, gate: Gate | SyncGate) -> None:
        self._gate = gate

    def collect(self) -> Iterator[Metric]:
        """Return all metrics, with their current values."""
        health = self._gate.health()
        yield _decisions(health)
        yield from _breaker_metrics(health)
        yield GaugeMetricFamily(
            "faregate_retries_waiting",
            "Background actions to retry, such as voids and refunds.",
            health.retries_waiting,
        )
        yield CounterMetricFamily(
            "faregate_retries_given_up",
            "Abandoned background actions; each is in the log and needs a person.",
            health.retries_given_up,
        )
        yield CounterMetricFamily(
            "faregate_shed",
            "Requests refused or served undecided because of overload.",
            health.shed,
        )
        yield CounterMetricFamily(
            "faregate_undecided",
            "Requests without a decision because of an outage.",
            health.undecided,
        )
        yield CounterMetricFamily(
            "faregate_served_open",
            "Requests served undecided, because of overload or an outage.",
            health.served_open,
        )
        yield CounterMetricFamily("faregate_voids", "Unanswered attempts to void.", health.voids)
        if health.calls is not None:
            yield from _call_metrics(health.calls)
        if health.journal is not None:
            yield from _journal_metrics(health.journal)


def _decisions(health: Health) -> Metric:
    decisions = CounterMetricFamily(
        "faregate_decisions",
        "Decided spends, by policy and verdict.",
        labels=["policy", "verdict"],
    )
    counted = (
        (policy, verdict, count)
        for policy, counts in health.decisions.items()
        for verdict, count in counts.items()
    )
    for policy, verdict, count in counted:
        decisions.add_metric([policy, str(verdict)], count)
    return decisions


def _breaker_metrics(health: Health) -> Iterator[Metric]:
    yield labelled(
        GaugeMetricFamily(
            "faregate_breaker_state",
            "1 for the worst state of a circuit breaker; each server of Redis has one.",
            labels=["state"],
        ),
        {str(state): int(health.breaker is state) for state in BreakerState},
    )
    yield GaugeMetricFamily(
        "faregate_breaker_state_seconds",
        "Time since that circuit breaker last closed or opened.",
        health.breaker_state_ms / 1000,
    )
    yield CounterMetricFamily(
        "faregate_breaker_opened", "Times a circuit breaker opened.", health.breaker_opened
    )
    yield _lanes(health)


def _lanes(health: Health) -> Metric:
    lanes = GaugeMetricFamily(
        "faregate_lane_breaker_state",
        "1 for the current state of the circuit breaker of each server, by its address.",
        labels=["lane", "state"],
    )
    for name, lane in health.lanes.items():
        for state in BreakerState:
            lanes.add_metric([name, str(state)], int(lane.breaker is state))
    return lanes


def _call_metrics(calls: CallCounts) -> Iterator[Metric]:
    yield HistogramMetricFamily(
        "faregate_decision_seconds",
        "Time from a spend to its decision; all spends of a call count as its first one.",
        calls.seconds.buckets,
        calls.seconds.total,
    )
    yield HistogramMetricFamily(
        "faregate_call_spends",
        "Spends per call to Redis.",
        calls.spends.buckets,
        calls.spends.total,
    )
    yield CounterMetricFamily(
        "faregate_late", "Spends decided after their callers had given up.", calls.late
    )
    yield CounterMetricFamily(
        "faregate_lost_answers",
        "Spends that callers were told of and that Redis has lost since.",
        calls.lost,
    )


def _journal_metrics(journal: JournalState) -> Iterator[Metric]:
    yield CounterMetricFamily(
        "faregate_journal_requests",
        "Requests written to the journal.",
        journal.requests,
    )
    yield GaugeMetricFamily(
        "faregate_journal_bytes", "Size of this process's journal.", journal.bytes
    )
    yield GaugeMetricFamily(
        "faregate_journal_bytes_max", "Maximum size of the journal.", journal.bytes_max
    )
