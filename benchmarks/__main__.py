"""`python -m benchmarks`: runs scenarios, and writes what came of them.

A whole run writes `benchmarks/results.json`, docs/performance.md and its plots. A quick one, or one
of some scenarios, writes the same into a folder under build/, and prints the page.
"""

import argparse
import sys
from collections.abc import Sequence

from benchmarks import machine
from benchmarks.bench import Bench, Plan, Sample
from benchmarks.errors import BenchError
from benchmarks.page import page_of, write_page
from benchmarks.processes import ROOT
from benchmarks.results import Results
from benchmarks.scenarios import QUICK, SCENARIOS
from benchmarks.servers import open_servers

WHOLE = Plan(rounds=5, seconds=1.5, is_quick=False)
SHORT = Plan(rounds=3, seconds=0.6, is_quick=True)
RESULTS = ROOT / "benchmarks/results.json"
ASIDE = ROOT / "build/bench-results"


def main(arguments: Sequence[str]) -> int:
    """Run; return the exit status."""
    parser = argparse.ArgumentParser(prog="make bench", description="Measure Faregate.")
    parser.add_argument("--quick", action="store_true", help="in under two minutes")
    parser.add_argument("--only", choices=SCENARIOS, action="append", help="one scenario")
    parser.add_argument("--page", action="store_true", help="write the page of the last results")
    given = parser.parse_args(arguments)
    if given.page:
        write_page(Results.read(RESULTS), ROOT / "docs")
        return 0
    names = given.only or (QUICK if given.quick else tuple(SCENARIOS))
    try:
        results = measure(SHORT if given.quick else WHOLE, names)
    except BenchError as error:
        print(f"make bench: {error}", file=sys.stderr)
        return 1
    if given.quick or given.only:
        results.write(ASIDE / "results.json")
        write_page(results, ASIDE)
        print(page_of(results))
    else:
        results.write(RESULTS)
        write_page(results, ROOT / "docs")
    return 0


def measure(plan: Plan, names: Sequence[str]) -> Results:
    """Run scenarios one after the other."""
    before = machine.load()
    samples: list[Sample] = []
    with open_servers() as servers:
        bench = Bench(plan, servers)
        for name in names:
            samples += SCENARIOS[name](bench)
    return Results(
        facts=machine.facts(),
        load_before=before,
        load_after=machine.load(),
        rounds=plan.rounds,
        samples=samples,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
