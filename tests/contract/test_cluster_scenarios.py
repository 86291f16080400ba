"""A ledger in a cluster answers as its specification: each scenario, its users on three nodes."""

from collections.abc import Iterator, Sequence

import pytest

from cluster_rig import running_cluster
from faregate.cli.servers import Binaries
from scenarios import SCENARIOS
from spec.backends import Backend
from spec.driver import Driver
from spec.stage import Stage, staged
from spec.steps import Step

pytestmark = [pytest.mark.cluster, pytest.mark.redis]

SHARDS = 3
#: One in so many is played each time, and all of them by `make test-cluster`.
QUICK_EVERY = 12
NAMES = [
    pytest.param(name, marks=[pytest.mark.long] if number % QUICK_EVERY else [])
    for number, name in enumerate(SCENARIOS)
]


@pytest.fixture(scope="module")
def stage(binaries: Binaries) -> Iterator[Stage]:
    with running_cluster(binaries.redis, replicas=0) as cluster, staged(cluster.url) as opened:
        yield opened


@pytest.mark.parametrize("name", NAMES)
def test_a_cluster_answers_as_the_specification_does(name: str, stage: Stage) -> None:
    """Each answer, balance and whatever else is told, where users have different shards."""
    kinds = [stage.backend(kind, shard_count=SHARDS) for kind in ("memory", "redis")]
    stage.loop.run(check(kinds, SCENARIOS[name]))


async def check(backends: Sequence[Backend], steps: Sequence[Step]) -> None:
    for backend in backends:
        await backend.start()
    drivers = [Driver(backend) for backend in backends]
    for number, step in enumerate(steps, start=1):
        expected, found = [await driver.play(step) for driver in drivers]
        assert found == expected, f"step {number}: {step}"
