"""More callers than can be served in time, with the settings of production.

Goodput is what was decided within the timeout. Callers that got no decision come back when they are
told to, after 100 ms, or after 5 ms. Each load has a gate of its own, so that a breaker that opened
says nothing about the next one; after it, 64 callers show whether the gate has recovered.
"""

from dataclasses import asdict, replace

from benchmarks.bench import Bench, Cell, Sample
from benchmarks.load import Load

NAME = "overload"
TARGET = "faregate-production"
TIMEOUT_MS = 50
CALLERS = (64, 256, 1_000, 2_000, 4_000)
#: The peak is the best goodput with one of these.
PEAK_CALLERS_MAX = 1_000
BACK_MS = {"as told": None, "after 100 ms": 100, "after 5 ms": 5}
SECONDS = 3.0
#: Each load starts a Redis and a gate of its own, so there are fewer.
ROUNDS_MAX = 3
AFTERWARDS = "afterwards"
USERS = 4_000
_AFTER = Load(
    callers=64,
    seconds=1.0,
    users_count=USERS,
    timeout_ms=TIMEOUT_MS,
    back_ms=5,
    warm_up_s=0,
)


def run(bench: Bench) -> list[Sample]:
    """Load a gate, and look after it, for each number of callers and way to come back."""
    samples = []
    for number in range(min(bench.plan.rounds, ROUNDS_MAX)):
        for variant, back_ms in BACK_MS.items():
            for callers in CALLERS:
                load = Load(
                    callers=callers,
                    seconds=SECONDS,
                    users_count=USERS,
                    back_ms=back_ms,
                    timeout_ms=TIMEOUT_MS,
                    warm_up_s=0,
                )
                cell = Cell(case=str(callers), variant=variant, target=TARGET, load=load)
                samples += _loaded(bench, cell, number)
    return samples


def _loaded(bench: Bench, cell: Cell, number: int) -> list[Sample]:
    """Load a new gate, then let a second go by and ask it as a few callers would."""
    with bench.servers.place() as place, bench.clients(place, [TARGET]) as clients:
        bench.install(place, [cell])
        client = clients[TARGET]
        # Made before the load, as connections are in a process that has served for a while.
        client.ask(asdict(replace(_AFTER, seconds=0.5)))
        loaded = bench.sample(NAME, cell, client, number)
        client.ask(asdict(_AFTER))
        after = replace(cell, case=f"{AFTERWARDS} {cell.case}", load=_AFTER)
        return [loaded, bench.sample(NAME, after, client, number)]
