"""Redis and the memory adapter answer alike: one table, played on both."""

from collections.abc import Iterator

import pytest

from play.player import Player
from play.sides import Side
from play.staging import KINDS, Stage, staged
from play.steps import USERS, Step
from scenarios import SCENARIOS, SUBJECTS

pytestmark = pytest.mark.redis


@pytest.fixture(scope="module")
def stage(redis_url: str) -> Iterator[Stage]:
    with staged(redis_url) as opened:
        yield opened


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SCENARIOS)
def test_the_ledger_answers_as_the_table_says(name: str, kind: str, stage: Stage) -> None:
    """Each step's answer, balance and whatever else the table says of it."""
    stage.loop.run(check(stage.side(kind), SCENARIOS[name]))


async def check(side: Side, steps: list[Step]) -> None:
    await side.start()
    player = Player(side)
    for number, step in enumerate(steps, start=1):
        played = await player.play(step)
        where = f"step {number}: {step}, but {played}"
        assert (played.answer, played.repeated) == (step.answer, step.repeated), where
        told = dict(played.tells)
        if "held" in step.tells:
            live = await side.ledger_of(USERS[step.user]).read(USERS[step.user])
            told["held"] = live.held if live else None
        assert {name: told.get(name) for name in step.tells} == step.tells, where


def test_each_scenario_has_a_name_of_its_own() -> None:
    """The second of one name would hide the first."""
    assert len(SCENARIOS) == sum(len(subject) for subject in SUBJECTS)
