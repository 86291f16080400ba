"""Steps that were played, and what came of them, to be held against the table of decisions."""

from dataclasses import dataclass

from faregate.domain.transaction import TransactionType
from play.decision_table import Row
from play.player import Played, Player
from play.redis_side import RedisSide
from play.sides import Side
from play.staging import Stage
from play.steps import Step

#: What must come before its deadline.
_IN_TIME = {"charge", "hold"}


@dataclass(frozen=True, slots=True)
class Witness:
    """One step that was played."""

    where: str
    step: Step
    played: Played
    #: Which scripts were run and what they replied; nothing in memory.
    heard: list[tuple[str, str]]
    written: list[TransactionType]


def play(stage: Stage, kind: str, steps: list[Step], where: str) -> list[Witness]:
    """Play steps on a new side."""
    return stage.loop.run(_play(stage, stage.side(kind), steps, where))


async def _play(stage: Stage, side: Side, steps: list[Step], where: str) -> list[Witness]:
    await side.start()
    await side.look()
    player, witnesses, is_lost = Player(side), [], False
    for number, step in enumerate(steps, start=1):
        if isinstance(side, RedisSide) and step.do in _IN_TIME and step.deadline_in_ms < 0:
            # A ledger that knows no time asks all the same, and comes too late.
            side.ledger._clock.now_ms = lambda: 0  # type: ignore[method-assign]
        stage.runner.heard.clear()
        played = await player.play(step)
        heard = list(stage.runner.heard)
        is_lost |= step.do == "wipe"
        written = [] if is_lost else [record.type for record in (await side.look()).new]
        witnesses.append(Witness(f"{where}, step {number}", step, played, heard, written))
    return witnesses


def agrees(row: Row, played: Played) -> bool:
    """Say whether this is the answer of a row."""
    if isinstance(row.answer, type):
        return isinstance(played.answer, type) and issubclass(played.answer, row.answer)
    return (played.answer, played.repeated) == (row.answer, row.status == "repeated")
