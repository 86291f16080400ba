"""Processes of an outage that are killed: `outage_process.py serve COUNT` or `... import COUNT`.

The first serves open requests of a few users, and writes the id of each after it was served. It
says `ready` once it has started and waits for a line, by which time Redis hangs; then it goes on
until it is killed or the count is over. The second imports the journals, and kills itself with
SIGKILL once it has collected so many entries.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

from faregate import FailureMode, Settings, open_gate
from faregate.adapters.journal.reader import open_journals
from faregate.domain.errors import LedgerUnavailableError
from faregate.domain.journal import Collected, JournalChange, JournalEntry
from faregate.gate import Gate
from faregate.ops.journal import import_journals

USERS = [UUID(int=number << 64 | number) for number in range(1, 9)]


def tell(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


async def serve(count: int) -> None:
    """Serve users by turns."""
    async with open_gate(Settings(decision_timeout_ms=10_000)) as patient:
        for user_id in USERS:
            await patient.balance(user_id)
    async with open_gate(Settings()) as gate:
        while not await has_started(gate):
            pass
        tell("ready")
        sys.stdin.readline()
        served = 0
        while served < count:
            served += await serve_round(gate)


async def has_started(gate: Gate) -> bool:
    """Say whether a gate knows its ledger; on a busy machine that may take more than one try."""
    try:
        await gate.balance(USERS[0])
    except LedgerUnavailableError:
        return False
    return True


async def serve_round(gate: Gate) -> int:
    """Serve each user once; a closed request between them is refused, and told to nobody."""
    served = 0
    for user_id in USERS:
        decision = await gate.charge(user_id, on_failure=FailureMode.OPEN)
        if decision.journaled:
            tell(str(decision.transaction_id))
            served += 1
    try:
        await gate.charge(USERS[0])
    except LedgerUnavailableError:
        return served
    raise RuntimeError("the outage is over")


class Dying:
    """Collects so many entries, and then there is no more process."""

    def __init__(self, gate: Gate, count: int) -> None:
        self._gate = gate
        self._left = count

    async def collect(
        self, entry: JournalEntry, changes: Sequence[JournalChange] = ()
    ) -> Collected:
        collected = await self._gate.collect(entry, changes)
        self._left -= 1
        if not self._left:
            os.kill(os.getpid(), signal.SIGKILL)
        return collected

    async def follow(self, change: JournalChange) -> Collected:
        return await self._gate.follow(change)


async def import_until_killed(count: int) -> None:
    """Import the journals as the command does, up to a point."""
    settings = Settings(decision_timeout_ms=10_000)
    with open_journals([Path(settings.journal_dir)]) as files:
        async with open_gate(settings) as gate:
            await import_journals(Dying(gate, count), files)


def main(what: str, count: str) -> None:
    """Do what the command line says."""
    act = serve if what == "serve" else import_until_killed
    asyncio.run(act(int(count)))


if __name__ == "__main__":
    main(*sys.argv[1:])
