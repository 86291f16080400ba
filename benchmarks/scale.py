"""`python -m benchmarks.scale`: what a ledger of some size needs, and the tables of docs/scale.md.

The inputs are those of `make bench` and `make bench-primaries`, and of pages. Nothing is measured
here.
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import inf
from pathlib import Path

from benchmarks.processes import ROOT
from benchmarks.results import Results, Table, value_of
from benchmarks.scale_inputs import PRIMARIES, read_inputs, sources
from benchmarks.sections import table
from benchmarks.sizing import (
    Measured,
    Needed,
    Wanted,
    call_spends,
    closed_flight,
    divided,
    needed_for,
    used_shares,
)

PAGE = ROOT / "docs/scale.md"
SHARDS = 16
#: The columns of the page.
EXAMPLES: Sequence[tuple[Wanted, int]] = (
    (Wanted(decisions_a_s=1_000, rows_a_day=10e6, users=100e3, shards=16), 1),
    (Wanted(decisions_a_s=10_000, rows_a_day=100e6, users=1e6, shards=16), 1),
    (Wanted(decisions_a_s=100_000, rows_a_day=1e9, users=10e6, shards=96), 1),
    (Wanted(decisions_a_s=1e6, rows_a_day=1e9, users=100e6, shards=96), 4),
    (Wanted(decisions_a_s=1e6, rows_a_day=28.8e9, users=100e6, shards=96), 32),
)


def count_of(value: float, unit: str = "") -> str:
    """Return a number for people: two digits, and k, M, B or T."""
    for letter, size in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            scaled = value / size
            return f"{scaled:,.{0 if scaled >= 10 else 1}f}".removesuffix(".0") + f" {letter}{unit}"
    return (f"{value:.0f}" if value >= 10 or value == int(value) else f"{value:.1f}") + (
        f" {unit}" if unit else ""
    )


def bytes_of(value: float) -> str:
    """Return a size for people."""
    return count_of(value, "B").replace("BB", "GB").replace("kB", "KB")


def _time(seconds: float) -> str:
    if seconds == inf:
        return "never"
    return f"{seconds / 3600:.1f} h" if seconds >= 3_600 else f"{seconds / 60:.0f} min"


_WANTED: Mapping[str, Callable[[Wanted, int], str]] = {
    "decisions/s": lambda wanted, _: count_of(wanted.decisions_a_s),
    "rows a day": lambda wanted, _: count_of(wanted.rows_a_day),
    "users": lambda wanted, _: count_of(wanted.users),
    "ledgers": lambda _, ledgers: str(ledgers),
    "of each ledger: shards": lambda wanted, _: str(wanted.shards),
}
_NEEDED: Mapping[str, Callable[[Needed], str]] = {
    "API processes": lambda one: f"{one.processes:,}",
    "primaries": lambda one: f"{one.primaries:,}",
    "replicas": lambda one: f"{one.primaries:,}",
    "spends a call": lambda one: f"{one.call_spends:.1f}",
    "Redis µs a decision": lambda one: f"{one.redis_us:.0f}",
    "memory of a node": lambda one: bytes_of(one.node_bytes),
    "network of a primary": lambda one: count_of(8 * one.node_bytes_a_s, "bit/s"),
    "Postgres may be away for": lambda one: _time(one.outage_s_max),
    "rows/s at the peak": lambda one: count_of(one.rows_a_s),
    "workers": lambda one: f"{one.workers:,}",
    "Postgres disk a day": lambda one: bytes_of(one.disk_bytes_a_day),
    "Postgres disk a year": lambda one: bytes_of(one.disk_bytes_a_year),
}


def sizes(measured: Measured, examples: Iterable[tuple[Wanted, int]]) -> list[list[str]]:
    """Return the rows of a table: what is wanted of all ledgers, and what each one needs."""
    found = list(examples)
    needed = [needed_for(measured, divided(wanted, ledgers)) for wanted, ledgers in found]
    rows = [[name, *(told(*one) for one in found)] for name, told in _WANTED.items()]
    rows += [
        [name, *(told(one) if one else "too few shards" for one in needed)]
        for name, told in _NEEDED.items()
    ]
    shares = [used_shares(measured, divided(wanted, ledgers)) for wanted, ledgers in found]
    rows += [[f"bound: {name}", *(f"{share[name]:.2f}" for share in shares)] for name in shares[0]]
    return [*rows, ["breaks first", *(max(share, key=share.__getitem__) for share in shares)]]


def predicted(found: Table, measured: Measured) -> list[list[str]]:
    """Return the rows of a table: what was measured on some primaries beside the prediction."""

    def told(callers: str, variant: str, name: str) -> float:
        spread = found.spread(callers, variant, value_of(name))
        assert spread is not None
        return spread.low if name.endswith("_us") else spread.median

    rows = []
    for callers in found.cases:
        for variant in found.variants:
            row = [callers, "1, no cluster" if variant == "server" else variant]
            row.append(f"{told(callers, variant, 'rate'):,.0f}")
            spends = told(callers, variant, "call_spends")
            if variant == "server":
                shown = [f"{spends:.1f}", "", *_pairs(told, callers, variant)]
            else:
                primaries = int(variant)
                flight = closed_flight(int(callers), primaries)
                guess = call_spends(flight, SHARDS / primaries)
                lines = (measured.redis_us, measured.client_us)
                pairs = _pairs(told, callers, variant, [line.at(guess) for line in lines])
                shown = [f"{spends:.1f}", f"{guess:.1f}", *pairs]
            rows.append(row + shown)
    return rows


def _pairs(
    told: Callable[[str, str, str], float],
    callers: str,
    variant: str,
    guesses: Sequence[float] | None = None,
) -> list[str]:
    shown = []
    for number, name in enumerate(("redis_cpu_us", "client_cpu_us")):
        shown += [
            f"{told(callers, variant, name):.0f}",
            f"{guesses[number]:.0f}" if guesses else "",
        ]
    return shown


def tables() -> Mapping[str, str]:
    """Return the tables of the page, by the words before each of them."""
    measured = read_inputs()
    inputs = [[one.meaning, one.figure, one.source] for one in sources(measured)]
    head, *rows = sizes(measured, EXAMPLES)
    found = Results.read(PRIMARIES).of("primaries")
    columns = ("callers", "primaries", "decisions/s", "spends a call", "predicted")
    return {
        "<!-- inputs -->": table(("of", "takes", "from"), inputs),
        "<!-- sizes -->": table(head, rows),
        "<!-- primaries -->": table(
            (*columns, "Redis µs", "predicted", "client µs", "predicted"),
            predicted(found, measured),
        ),
    }


def written(page: str) -> str:
    """Return the page with the tables of now."""
    for words, text in tables().items():
        before, _, after = page.partition(words + "\n")
        rest = after.lstrip("\n")
        while rest.startswith("|"):
            rest = rest.partition("\n")[2]
        rest = rest.lstrip("\n")
        page = f"{before}{words}\n\n{text}" + (f"\n{rest}" if rest else "")
    return page


def main(arguments: Sequence[str]) -> int:
    """Run; return the exit status."""
    parser = argparse.ArgumentParser(prog="make scale")
    parser.add_argument("--decisions", type=float, default=50_000, help="a second, at the peak")
    parser.add_argument("--rows", type=float, default=1e9, help="a day")
    parser.add_argument("--users", type=float, default=10e6)
    parser.add_argument("--shards", type=int, default=48)
    parser.add_argument("--ledgers", type=int, default=1)
    parser.add_argument("--write", type=Path, help="write the tables of a page")
    given = parser.parse_args(arguments)
    if given.write:
        page = given.write.read_text(encoding="utf-8")
        given.write.write_text(written(page), encoding="utf-8")
        return 0
    wanted = Wanted(
        decisions_a_s=given.decisions,
        rows_a_day=given.rows,
        users=given.users,
        shards=given.shards,
    )
    for name, value in sizes(read_inputs(), [(wanted, given.ledgers)]):
        print(f"{name:<42}{value}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
