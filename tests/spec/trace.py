"""Steps that were played, and what came of them, to be held against the table of decisions."""

from dataclasses import dataclass

from faregate.domain.transaction import TransactionType
from spec.backends import Backend
from spec.decision_table import OPERATIONS, TABLE, Row
from spec.driver import Driver, Played
from spec.stage import Stage
from spec.steps import Step

#: After these the live balances cannot be read.
_BREAKS = {"wipe", "spoil"}


@dataclass(frozen=True, slots=True)
class Traced:
    """One step that was played."""

    where: str
    step: Step
    played: Played
    written: list[TransactionType]

    def rows(self) -> list[Row]:
        """Return the rows that it shows: those whose answer and records are its own."""
        operation = OPERATIONS.get(self.step.do, self.step.do)
        return [
            row
            for row in TABLE
            if row.operation == operation and agrees(row, self.played) and row.accepts(self.written)
        ]


def trace(stage: Stage, kind: str, steps: list[Step], where: str) -> list[Traced]:
    """Play steps on a new backend."""
    return stage.loop.run(_trace(stage.backend(kind), steps, where))


async def _trace(backend: Backend, steps: list[Step], where: str) -> list[Traced]:
    await backend.start()
    await backend.look()
    driver, traced, is_broken = Driver(backend), [], False
    for number, step in enumerate(steps, start=1):
        played = await driver.play(step)
        is_broken = is_broken or step.do in _BREAKS
        new = [] if is_broken else (await backend.look()).new
        written = [record.type for record in new]
        traced.append(Traced(f"{where}, step {number}", step, played, written))
    return traced


def agrees(row: Row, played: Played) -> bool:
    """Say whether this is the answer of a row."""
    if row.operation == "expire":
        return played.tells.get("ended") == 1
    if isinstance(row.answer, type):
        return isinstance(played.answer, type) and issubclass(played.answer, row.answer)
    return (played.answer, played.repeated) == (row.answer, row.status == "repeated")
