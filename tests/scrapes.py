"""What Prometheus would be told: samples by name and labels."""

import urllib.request

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from waiting import WAIT_S_MAX


def samples_of(text: str) -> list[Sample]:
    """The samples of an exposition."""
    return [s for family in text_string_to_metric_families(text) for s in family.samples]


def by_name(text: str) -> dict[str, float]:
    """Each sample by its name and the values of its labels."""
    return {"/".join([s.name, *s.labels.values()]): s.value for s in samples_of(text)}


def exposition(*collectors: Collector) -> str:
    """What a scrape of some collectors finds."""
    registry = CollectorRegistry()
    for collector in collectors:
        registry.register(collector)
    return generate_latest(registry).decode()


def scrape(port: int) -> dict[str, float]:
    """What a scrape of a port finds; nothing where nobody listens."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=WAIT_S_MAX) as page:
            return by_name(page.read().decode())
    except OSError:
        return {}
