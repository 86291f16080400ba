"""Metrics of the worker: `faregate worker --metrics-port 9101`, with `faregate[metrics]`.

The ticker serves them, since a thread that queries servers must not exist when a job is forked.
Current numbers (pending records, memory, dead letters) are read at each scrape. They cover the
whole ledger, so each worker reports the same. Each worker counts its own work.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from math import inf

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from faregate.bootstrap import (
    open_archive,
    open_orders,
    open_reconciliations,
    open_reports,
    open_stream,
)
from faregate.config import Settings
from faregate.domain.errors import FaregateError
from faregate.domain.finding import DriftKind
from faregate.domain.fork import RecentForks
from faregate.domain.schedule import LastRun
from faregate.metrics import labelled, serve
from faregate.ops.backlog import pending_seconds
from faregate.ports import Cursor
from faregate_worker.counts import Counts


def serve_worker(settings: Settings, counts: Counts) -> None:
    """Serve the metrics of a worker in a thread.

    Raises:
        ConfigurationError: The port is not free.
    """
    serve(WorkerCollector(settings, counts), [settings.metrics_port], settings.metrics_host)


class WorkerCollector(Collector):
    """Collects the work of a worker, and the state of the ledger."""

    def __init__(self, settings: Settings, counts: Counts) -> None:
        self._settings = settings
        self._counts = counts
        #: The cursors of the last answer of Postgres.
        self._cursors: Mapping[int, Cursor] = {}

    def collect(self) -> Iterator[Metric]:
        """Return all metrics, without those of a server that does not answer."""
        yield from _counted(self._counts)
        usable = {"postgres": 0, "redis": 0}
        for server, ask in (("postgres", self._durable), ("redis", self._pending)):
            with suppress(FaregateError):
                yield from ask()
                usable[server] = 1
        yield labelled(
            GaugeMetricFamily(
                "faregate_server_usable",
                "1 if redis answers, or if postgres stores records; else 0.",
                labels=["server"],
            ),
            usable,
        )

    def _durable(self) -> Iterator[Metric]:
        """Return the metrics from Postgres."""
        with open_archive(self._settings) as archive:
            self._cursors = archive.cursors()
            yield labelled(
                GaugeMetricFamily(
                    "faregate_dead_letters",
                    "Dead letters that are not discarded, by kind.",
                    labels=["kind"],
                ),
                archive.dead_letters(),
            )
            archive.check_writes()
        with open_reconciliations(self._settings) as reconciliations:
            if last := reconciliations.last():
                yield from _compared(last)
        with open_reports(self._settings) as reports:
            yield from _forked(reports.recent_forks())
        with open_orders(self._settings) as orders:
            yield GaugeMetricFamily(
                "faregate_orders_waiting",
                "Orders of credits by SQL without a row.",
                orders.counts().waiting,
            )

    def _pending(self) -> Iterator[Metric]:
        """Return the metrics from Redis."""
        with open_stream(self._settings) as stream:
            used, limit = stream.memory()
            yield GaugeMetricFamily("faregate_redis_bytes", "Memory used by Redis.", used)
            yield GaugeMetricFamily(
                "faregate_redis_bytes_max", "Memory limit of Redis; +Inf for none.", limit or inf
            )
            yield GaugeMetricFamily(
                "faregate_pending_records",
                "Records not known to be rows.",
                stream.pending_count(),
            )
            yield GaugeMetricFamily(
                "faregate_pending_seconds",
                "Age of the oldest pending record; 0 without any.",
                max(pending_seconds(stream, self._cursors).values(), default=0.0),
            )


def _compared(last: LastRun) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "faregate_reconcile_age_seconds",
        "Time since the end of the last reconcile.",
        last.ended_s,
    )
    yield GaugeMetricFamily(
        "faregate_reconcile_drift_users",
        "Users with drift in the last reconcile.",
        last.drift_users,
    )
    yield labelled(
        GaugeMetricFamily(
            "faregate_reconcile_findings",
            "Findings of the last reconcile, by kind.",
            labels=["kind"],
        ),
        {kind: last.finding_counts.get(kind, 0) for kind in DriftKind},
    )


def _forked(recent: RecentForks) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "faregate_forks",
        "Forks of the last day: where Redis lost its newest records.",
        recent.forks,
    )
    yield labelled(
        GaugeMetricFamily(
            "faregate_fork_records",
            "Records that these forks lost: rows (kept), or answered decisions without one (lost).",
            labels=["outcome"],
        ),
        {"kept": recent.kept, "lost": recent.lost},
    )
    yield GaugeMetricFamily(
        "faregate_fork_users_waiting",
        "Users whose live balances do not include their kept records yet.",
        recent.users_waiting,
    )


def _counted(counts: Counts) -> Iterator[Metric]:
    totals = counts.totals
    yield labelled(
        CounterMetricFamily(
            "faregate_drained_records",
            "Records that became rows (inserted), were rows (repeated), or became dead_letters.",
            labels=["outcome"],
        ),
        {outcome: totals[outcome] for outcome in ("inserted", "repeated", "dead_letters")},
    )
    yield CounterMetricFamily(
        "faregate_trimmed_entries",
        "Old stream entries deleted, each with all its records.",
        totals["trimmed"],
    )
    yield HistogramMetricFamily(
        "faregate_batch_seconds",
        "Time to store and commit a batch.",
        counts.batch_seconds.buckets,
        counts.batch_seconds.total,
    )
    yield HistogramMetricFamily(
        "faregate_batch_records",
        "Records per batch.",
        counts.batch_records.buckets,
        counts.batch_records.total,
    )
    yield labelled(
        CounterMetricFamily(
            "faregate_drain_failures",
            "Times that records stayed pending: blocked by the schema or a lock, or in an outage.",
            labels=["why"],
        ),
        {why: totals[why] for why in ("blocked", "outage")},
    )
