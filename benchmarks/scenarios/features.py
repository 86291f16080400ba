"""What limits, allowances, keys and holds cost, beside the plain charge of the same run."""

from benchmarks.bench import Bench, Cell, Sample
from benchmarks.load import Load

NAME = "features"
BASE = "faregate"
CALLERS = (64, 256)
VARIANTS = (
    "faregate",
    "faregate + 2 limits",
    "faregate + allowance",
    "faregate + 2 limits + allowance",
    "faregate + idempotency key",
    "faregate, hold + settle",
)


def run(bench: Bench) -> list[Sample]:
    """Measure each variant with users of its own, since policies leave traces in accounts."""
    cells = [
        Cell(
            case=str(callers),
            variant=variant,
            target=variant,
            load=Load(callers=callers, seconds=bench.plan.seconds, users=variant),
        )
        for callers in CALLERS
        for variant in VARIANTS
    ]
    return bench.side_by_side(NAME, cells)
