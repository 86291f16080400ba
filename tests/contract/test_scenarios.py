"""Redis and the memory adapter answer alike: one table, played on both."""

from collections.abc import Iterator

import pytest

from scenarios import SCENARIOS, SUBJECTS
from spec.backends import Backend
from spec.driver import Driver, Played
from spec.redis_backend import RedisBackend
from spec.stage import KINDS, Stage, staged
from spec.steps import USERS, Step

pytestmark = pytest.mark.redis


@pytest.fixture(scope="module")
def stage(redis_url: str) -> Iterator[Stage]:
    with staged(redis_url) as opened:
        yield opened


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SCENARIOS)
def test_the_ledger_answers_as_the_table_says(name: str, kind: str, stage: Stage) -> None:
    """Each step's answer, balance and whatever else the table says of it."""
    stage.loop.run(check(stage.backend(kind), SCENARIOS[name]))


async def check(backend: Backend, steps: list[Step]) -> None:
    await backend.start()
    driver, is_lost = Driver(backend), False
    for number, step in enumerate(steps, start=1):
        played = await driver.play(step)
        is_lost = is_lost or step.do == "wipe"
        where = f"step {number}: {step}, but {played}"
        await check_step(backend, step, played, where)
        for part, came in zip(step.spends, played.parts, strict=True):
            await check_step(backend, part, came, where)
    if isinstance(backend, RedisBackend) and not is_lost:
        await backend.check_nothing_is_left()


async def check_step(backend: Backend, step: Step, played: Played, where: str) -> None:
    assert (played.answer, played.repeated) == (step.answer, step.repeated), where
    told = dict(played.tells)
    if "held" in step.tells:
        live = await backend.ledger_of(USERS[step.user]).read(USERS[step.user])
        told["held"] = live.held if live else None
    assert {name: told.get(name) for name in step.tells} == step.tells, where


def test_each_scenario_has_a_name_of_its_own() -> None:
    """The second of one name would hide the first."""
    assert len(SCENARIOS) == sum(len(subject) for subject in SUBJECTS)
