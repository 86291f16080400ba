"""Alerts, dashboard and docs name the metrics and labels that scrapes of gate and worker have."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
import yaml

from faregate import Settings, open_gate
from faregate.domain.decision import Verdict
from faregate.metrics import GateCollector
from faregate_worker.counts import Counts
from faregate_worker.metrics import WorkerCollector
from reference_pages import check_page
from scrapes import exposition, samples_of
from website.reference.metrics import metrics_page

pytestmark = [pytest.mark.redis, pytest.mark.postgres]

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
RULES = yaml.safe_load((DEPLOY / "prometheus/faregate.yml").read_text("utf-8"))
DASHBOARD = json.loads((DEPLOY / "grafana/faregate.json").read_text("utf-8"))
#: What Prometheus itself adds to each sample.
ADDED = {"job", "instance"}


def alerts() -> list[dict[str, Any]]:
    return [rule for group in RULES["groups"] for rule in group["rules"]]


def targets() -> list[dict[str, Any]]:
    return [target for panel in DASHBOARD["panels"] for target in panel["targets"]]


QUERIES = [one["expr"] for one in [*alerts(), *targets()]]


DEAD_LETTER = """
insert into faregate.dead_letters (shard, stream_id, kind, reason, payload, payload_digest)
values (0, '1-0/0', 'unreadable', 'a test', '', sha256(''))
"""
RUN = """
insert into faregate.reconciliations (
    began_at, ended_at, user_count, drift_user_count, pending_count, dead_letter_count,
    finding_counts, findings
)
values (now(), now(), 0, 0, 0, 0, '{}', '[]')
"""


@pytest.fixture
async def scrapes(ledger_redis: str, database_url: str, tmp_path: Path) -> tuple[str, str]:
    """What a gate tells that has decided, and what a worker tells."""
    settings = Settings(
        redis_url=ledger_redis,
        postgres_url=database_url,
        provision_users=True,
        journal_dir=str(tmp_path),
    )
    user_id = uuid4()
    with psycopg.connect(database_url) as connection:
        connection.execute(DEAD_LETTER)
        connection.execute(RUN)
    async with open_gate(settings) as gate:
        for _ in range(4):
            await gate.charge(user_id)
        told = exposition(GateCollector(gate)), exposition(WorkerCollector(settings, Counts()))
    assert str(user_id) not in "".join(told)
    return told


@pytest.fixture
def scraped(scrapes: tuple[str, str]) -> dict[str, set[str]]:
    """Each metric with its labels."""
    samples = samples_of("".join(scrapes))
    decided = {
        s.labels["verdict"]: s.value for s in samples if s.name == "faregate_decisions_total"
    }
    assert decided == {"allowed": 3, "out_of_credits": 1}
    return {sample.name: set(sample.labels) for sample in samples}


def asked(query: str) -> Iterator[tuple[str, set[str]]]:
    """Each metric of a query, with the labels that choose its samples."""
    for name, chosen in re.findall(r"\b(faregate_\w+)(?:\{([^}]*)\})?", query):
        yield name, set(re.findall(r"(\w+)\s*(?:=|!)", chosen))


def problems(query: str, scraped: dict[str, set[str]]) -> Iterator[str]:
    """What a query asks for that is not there, or asks in the wrong way."""
    grouped = {name for names in re.findall(r"by \(([^)]*)\)", query) for name in names.split(", ")}
    for name, labels in asked(query):
        if name not in scraped:
            yield f"no {name}"
        elif not labels | grouped <= scraped[name] | ADDED:
            yield f"{labels | grouped} of {name}"
        is_growing = name.endswith(("_total", "_bucket", "_sum", "_count"))
        if is_growing != bool(re.search(rf"(?:rate|increase)\({name}", query)):
            yield f"rate of {name}"
    if ("_bucket" in query) != ("histogram_quantile" in query):
        yield "buckets are for quantiles"
    if not set(re.findall(r'verdict="(\w+)"', query)) <= set(Verdict):
        yield "no such verdict"
    if any(query.count(opening) != query.count(closing) for opening, closing in ("()", "[]", "{}")):
        yield "brackets"


def test_queries_use_existing_metrics(scraped: dict[str, set[str]]) -> None:
    """A misspelt name would give an empty panel, and an alert that never fires."""
    assert all(list(asked(query)) for query in QUERIES)
    found = {query: list(problems(query, scraped)) for query in QUERIES}
    assert {query: told for query, told in found.items() if told} == {}


def test_a_query_for_a_missing_metric_is_found(scraped: dict[str, set[str]]) -> None:
    """Or the test before would pass whatever is asked."""
    for query in (
        "sum(rate(faregate_decision_total[5m]))",
        'max(faregate_pending_seconds{shard="1"})',
        "max by (user) (faregate_pending_seconds)",
        "sum(faregate_decisions_total)",
        'sum(rate(faregate_decisions_total{verdict="alowed"}[5m]))',
        "max((faregate_pending_seconds)",
    ):
        assert list(problems(query, scraped)), query


def test_each_metric_is_shown(scraped: dict[str, set[str]]) -> None:
    """One that is added is on the dashboard; a histogram by what is made of it."""
    shown = {re.sub("_(?:bucket|sum|count)$", "", n) for query in QUERIES for n, _ in asked(query)}
    assert shown == {re.sub("_(?:bucket|sum|count)$", "", name) for name in scraped}


def test_each_metric_is_in_the_docs(scrapes: tuple[str, str]) -> None:
    """With its type, its labels and what it says of itself."""
    check_page("metrics.md", metrics_page(*scrapes))


def test_alerts_name_the_problem_in_one_line() -> None:
    for alert in alerts():
        assert alert["annotations"]["summary"].count("\n") == 0
        assert alert["labels"]["severity"] in {"warning", "critical"}
