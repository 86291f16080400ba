"""Whether a decision gets dearer with users and with records that wait for the worker."""

from dataclasses import asdict

from benchmarks.bench import Bench, Cell, Sample
from benchmarks.internals import install_users
from benchmarks.load import Load
from benchmarks.processes import Talker
from benchmarks.users import user_ids

NAME = "growth"
BASE = "10k users"
TARGET = "faregate"
CALLERS = 64
USERS_FEW, USERS_MANY = 10_000, 1_000_000
PENDING = 1_000_000
#: Where filling takes longer, it ends, and the result says how far it came.
FILL_S_MAX = 150.0


def run(bench: Bench) -> list[Sample]:
    """Measure one ledger while it grows."""
    with bench.servers.place() as place, bench.clients(place, [TARGET]) as clients:
        client, samples = clients[TARGET], []
        install_users(place.redis_url, user_ids("user", USERS_FEW))
        samples += _measured(bench, client, "10k users", USERS_FEW, 0)
        bench.say("growth: installing users")
        install_users(place.redis_url, user_ids("user", USERS_MANY))
        samples += _measured(bench, client, "1M users", USERS_MANY, 0)
        bench.say("growth: filling streams")
        fill = Load(
            callers=256,
            seconds=FILL_S_MAX,
            users_count=USERS_MANY,
            decisions_max=PENDING,
            warm_up_s=0,
        )
        pending = int(client.ask(asdict(fill))["decisions"])
        samples += _measured(bench, client, "1M users, pending", USERS_MANY, pending)
    return samples


def _measured(bench: Bench, client: Talker, variant: str, users: int, pending: int) -> list[Sample]:
    load = Load(callers=CALLERS, seconds=bench.plan.seconds, users_count=users)
    cell = Cell(case=str(CALLERS), variant=variant, target=TARGET, load=load)
    samples = [bench.sample(NAME, cell, client, number) for number in range(bench.plan.rounds)]
    return [
        Sample(
            scenario=sample.scenario,
            case=sample.case,
            variant=sample.variant,
            round=sample.round,
            values={**sample.values, "pending": pending},
        )
        for sample in samples
    ]
