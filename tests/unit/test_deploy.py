"""Alerts and dashboard ask for metrics and labels that a scrape of a real gate has."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from faregate import CreditPolicy, Gate
from faregate.adapters.journal.writer import FileJournal
from faregate.adapters.memory.store import MemoryStore
from faregate.domain.decision import Verdict
from faregate.domain.policy import GateOptions
from faregate.metrics import GateCollector
from lossy_ledger import Clock, LossyLedger

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


@pytest.fixture
async def scraped(tmp_path: Path) -> dict[str, set[str]]:
    """Each metric of a gate that has decided, with its labels."""
    options = GateOptions(provision_users=True)
    journal = FileJournal(tmp_path, bytes_max=10_000)
    gate = Gate(LossyLedger(Clock()), MemoryStore(), CreditPolicy(), options, journal=journal)
    user_id = uuid4()
    for _ in range(4):
        await gate.charge(user_id)
    registry = CollectorRegistry()
    registry.register(GateCollector(gate))
    text = generate_latest(registry).decode()
    assert str(user_id) not in text
    await gate.aclose()
    samples = [s for family in text_string_to_metric_families(text) for s in family.samples]
    decided = {
        s.labels["verdict"]: s.value for s in samples if s.name == "faregate_decisions_total"
    }
    assert decided == {"allowed": 3, "out_of_credits": 1}
    return {sample.name: set(sample.labels) for sample in samples}


def asked(query: str) -> Iterator[tuple[str, set[str]]]:
    """Each metric of a query, with the labels that choose its samples."""
    for name, chosen in re.findall(r"\b(faregate_\w+)(?:\{([^}]*)\})?", query):
        yield name, set(re.findall(r"(\w+)\s*=~?", chosen))


@pytest.mark.parametrize("query", sorted(set(QUERIES)))
def test_queries_ask_for_what_is_there(query: str, scraped: dict[str, set[str]]) -> None:
    """A misspelt name would give an empty panel, and an alert that never fires."""
    found = list(asked(query))
    assert found
    grouped = {name for names in re.findall(r"by \(([^)]*)\)", query) for name in names.split(", ")}
    for name, labels in found:
        assert name in scraped
        assert labels | grouped <= scraped[name] | ADDED
        is_counter = name.endswith("_total")
        assert is_counter == bool(re.search(rf"(?:rate|increase)\({name}", query))
    for verdict in re.findall(r'verdict="(\w+)"', query):
        assert verdict in set(Verdict)
    for opening, closing in ("()", "[]", "{}"):
        assert query.count(opening) == query.count(closing)


def test_each_metric_is_shown(scraped: dict[str, set[str]]) -> None:
    """One that is added is on the dashboard."""
    shown = {name for query in QUERIES for name, _ in asked(query)}
    assert shown == set(scraped)


def test_alerts_say_in_one_line_what_is_wrong() -> None:
    for alert in alerts():
        assert alert["annotations"]["summary"].count("\n") == 0
        assert alert["labels"]["severity"] in {"warning", "critical"}
