"""The page of metrics, from what scrapes of a gate and of a worker have found."""

from collections.abc import Iterator

from prometheus_client.parser import text_string_to_metric_families

from website.reference.markdown import code, page, table

_INTRODUCTION = """\
Prometheus scrapes these metrics; [operate.md](operate.md#metrics) shows how. No metric names a
user. Counters and histograms start at 0 with the process."""
_OF_A_GATE = "`faregate.metrics.GateCollector` reports one gate in one process."
_OF_A_WORKER = """\
`faregate worker --metrics-port` reports its own work, and the state of the ledger, which is the
same from each worker. While a server does not answer, the numbers from that server are missing."""


def metrics_page(gate: str, worker: str) -> str:
    """Return the page.

    Args:
        gate: What a scrape of a gate has found, with all its metrics.
        worker: What a scrape of a worker has found.
    """
    heads = ["Metric", "Type", "Labels", "Meaning"]
    return page(
        "Metrics",
        _INTRODUCTION,
        "## Of a gate",
        _OF_A_GATE,
        table(heads, _rows(gate)),
        "## Of a worker",
        _OF_A_WORKER,
        table(heads, _rows(worker)),
    )


def _rows(exposition: str) -> Iterator[tuple[str, str, str, str]]:
    for family in text_string_to_metric_families(exposition):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = sorted({label for sample in family.samples for label in sample.labels} - {"le"})
        yield code(name), family.type, ", ".join(map(code, labels)), family.documentation
