"""The scenarios, in the order in which they are run."""

from collections.abc import Callable, Mapping

from benchmarks.bench import Bench, Sample
from benchmarks.scenarios import (
    decisions,
    features,
    growth,
    lookups,
    memory,
    middleware,
    one_user,
    overload,
)

Scenario = Callable[[Bench], list[Sample]]

SCENARIOS: Mapping[str, Scenario] = {
    "decisions": decisions.run,
    "middleware": middleware.run,
    "features": features.run,
    "overload": overload.run,
    "one_user": one_user.run,
    "growth": growth.run,
    "lookups": lookups.run,
    "memory": memory.run,
}
QUICK = ("decisions", "middleware", "memory")
