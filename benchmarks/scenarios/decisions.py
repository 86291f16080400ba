"""Decisions from one process: Faregate, a bare script call, and peers, by the number of callers."""

from benchmarks.bench import Bench, Cell, Sample
from benchmarks.load import Load

NAME = "decisions"
BASE = "bare"
CALLERS = (1, 16, 64, 256, 1_000)
CALLERS_QUICK = (1, 64, 256)
VARIANTS = ("faregate", "bare", "limits", "throttled-py", "pyrate-limiter")
VARIANTS_QUICK = ("faregate", "bare", "limits")


def run(bench: Bench) -> list[Sample]:
    """Measure every variant with every number of callers."""
    is_quick = bench.plan.is_quick
    cells = [
        Cell(
            case=str(callers),
            variant=variant,
            target=variant,
            load=Load(callers=callers, seconds=bench.plan.seconds),
        )
        for callers in (CALLERS_QUICK if is_quick else CALLERS)
        for variant in (VARIANTS_QUICK if is_quick else VARIANTS)
    ]
    return bench.side_by_side(NAME, cells)
