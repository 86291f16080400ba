"""The health of a gate for Prometheus: `pip install 'faregate[metrics]'`.

    REGISTRY.register(GateCollector(gate))

Numbers are those of `gate.health()`, read when they are asked for, of this process alone: where an
API runs as several processes, each is scraped by itself. The multiprocess mode of the client
collects from files, to which nothing is written here.
"""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from faregate.domain.health import BreakerState, Health, JournalState
from faregate.gate import Gate


class GateCollector(Collector):
    """Tells how one gate is."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def collect(self) -> Iterator[Metric]:
        """Return all metrics, as they are now."""
        health = self._gate.health()
        yield _decisions(health)
        yield from _breaker_metrics(health)
        yield GaugeMetricFamily(
            "faregate_retries_waiting",
            "Voids, refunds and other changes that are tried again.",
            health.retries_waiting,
        )
        yield CounterMetricFamily(
            "faregate_retries_given_up",
            "Those that were given up, each of which is named in the log.",
            health.retries_given_up,
        )
        yield CounterMetricFamily(
            "faregate_shed",
            "Requests that came while more waited than could be decided in time.",
            health.shed,
        )
        yield CounterMetricFamily(
            "faregate_undecided", "Requests on which no decision could be had.", health.undecided
        )
        yield CounterMetricFamily(
            "faregate_served_open",
            "Requests of both kinds that were served all the same.",
            health.served_open,
        )
        if health.journal is not None:
            yield from _journal_metrics(health.journal)


def _decisions(health: Health) -> Metric:
    decisions = CounterMetricFamily(
        "faregate_decisions",
        "Spends that were decided, by the name of the policy and the verdict.",
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
    state = GaugeMetricFamily(
        "faregate_breaker_state",
        "1 for the state that the circuit breaker before Redis is in.",
        labels=["state"],
    )
    for one in BreakerState:
        state.add_metric([str(one)], int(health.breaker is one))
    yield state
    yield GaugeMetricFamily(
        "faregate_breaker_state_seconds",
        "How long it has been closed, or has not been.",
        health.breaker_state_ms / 1000,
    )
    yield CounterMetricFamily(
        "faregate_breaker_opened", "How often it has opened.", health.breaker_opened
    )


def _journal_metrics(journal: JournalState) -> Iterator[Metric]:
    yield CounterMetricFamily(
        "faregate_journal_requests",
        "Requests that were written to the journal.",
        journal.requests,
    )
    yield GaugeMetricFamily(
        "faregate_journal_bytes", "The size of this process's journal.", journal.bytes
    )
    yield GaugeMetricFamily("faregate_journal_bytes_max", "What it may grow to.", journal.bytes_max)
