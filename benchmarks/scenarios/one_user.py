"""One user with a thousand requests in flight, beside a thousand users with one each."""

from benchmarks.bench import Bench, Cell, Sample
from benchmarks.load import Load

NAME = "one_user"
BASE = "1,000 users"
CALLERS = 1_000
USERS = {"1,000 users": 1_000, "one user": 1}


def run(bench: Bench) -> list[Sample]:
    """Measure both in turn; decisions may take ten seconds."""
    cells = [
        Cell(
            case=f"{CALLERS:,}",
            variant=variant,
            target="faregate",
            load=Load(callers=CALLERS, seconds=bench.plan.seconds, users_count=count),
        )
        for variant, count in USERS.items()
    ]
    return bench.side_by_side(NAME, cells)
