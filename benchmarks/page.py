"""docs/performance.md and its plots, made of the results and of nothing else."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks import charts, sections
from benchmarks.results import Results
from benchmarks.scenarios import overload

_INTRODUCTION = """\
# Performance

Written by `make bench`; do not edit. Ratios come first: they compare targets that were measured in
turn, in the same round of one run, on the same Redis. A figure is the median of {rounds} rounds
({overload_rounds} for the overload), with the smallest and the largest in parentheses. Absolute
figures depend on the machine and its other load.

- Each target runs in a separate process, on plain asyncio, with redis-py and hiredis.
- *bare* is one script call of redis-py for each decision: read, compare, deduct, write a record.
- Peers use their fastest algorithm, with a key for each of 1,000 users. They keep no
  record. At most 64 callers ask a peer or *bare* at once: redis-py's pool raises above 100.
- An error is not a decision. Decisions may take ten seconds, except for the overload, which has
  the settings of production.
"""


def write_page(results: Results, folder: Path) -> None:
    """Write the page into a folder of documents, and its plots into `performance/` there."""
    plots = folder / "performance"
    plots.mkdir(parents=True, exist_ok=True)
    for name, plot in plots_of(results).items():
        (plots / f"{name}.svg").write_text(plot, encoding="utf-8")
    (folder / "performance.md").write_text(page_of(results), encoding="utf-8")


def page_of(results: Results) -> str:
    """Return the page."""
    rounds = {"rounds": results.rounds, "overload_rounds": min(results.rounds, overload.ROUNDS_MAX)}
    introduction = _INTRODUCTION.format(**rounds)
    parts = [introduction, _facts(results)]
    parts += [section for make in sections.SECTIONS if (section := make(results))]
    return "\n".join(parts)


def plots_of(results: Results) -> Mapping[str, str]:
    """Return the plots by their names."""
    return {name: plot for name, make in charts.PLOTS.items() if (plot := make(results))}


def _facts(results: Results) -> str:
    facts = dict(results.facts)
    versions: Mapping[str, str] = facts.pop("versions")
    rows: Sequence[tuple[str, object]] = [
        *((name.replace("_", " "), value) for name, value in facts.items()),
        ("load before and after", f"{results.load_before['1_min']}, {results.load_after['1_min']}"),
        ("versions", ", ".join(f"{name} {number}" for name, number in versions.items())),
    ]
    return sections.table(("Measured on", ""), rows)
