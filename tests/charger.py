"""A process that charges: `charger.py burst USER COUNT` or `charger.py load SECONDS USER...`.

The first charges one user that often, all at once; the second charges, refunds and grants until the
time is over. Both write how many charges were allowed.
"""

import asyncio
import sys
import time
from contextlib import suppress
from uuid import UUID

from faregate import Gate, Settings, Verdict, open_gate
from faregate.domain.errors import LedgerUnavailableError

PAUSE_S = 0.05


async def burst(user_id: UUID, count: int) -> int:
    """Charge all at once, and again after its time where that is too much; count the allowed."""
    async with open_gate(Settings(decision_timeout_ms=10_000)) as gate:
        # The first sight of a user has a second of its own, whatever else is asked at once.
        await gate.balance(user_id)

        async def charge() -> bool:
            decision = await gate.charge(user_id)
            if decision.verdict is Verdict.OVERLOADED:
                await asyncio.sleep(decision.retry_after_ms / 1_000)
                return await charge()
            return decision.allowed

        return sum(await asyncio.gather(*(charge() for _ in range(count))))


async def load(user_ids: list[UUID], seconds: float) -> int:
    """Charge, refund and grant by turns; return how many charges were allowed."""
    allowed = 0
    async with open_gate(Settings(decision_timeout_ms=10_000)) as gate:
        ends_at = time.monotonic() + seconds
        while time.monotonic() < ends_at:
            allowed += sum(await asyncio.gather(*(turn(gate, user_id) for user_id in user_ids)))
            # The machine is shared with the worker and with what the test does meanwhile.
            await asyncio.sleep(PAUSE_S)
    return allowed


async def turn(gate: Gate, user_id: UUID) -> bool:
    """Charge twice, give one back, and grant where nothing is left.

    On a machine that is busy an answer may come too late; that is no error here, but the case.
    """
    with suppress(LedgerUnavailableError):
        return await charge_twice(gate, user_id)
    return False


async def charge_twice(gate: Gate, user_id: UUID) -> bool:
    """Return whether the first charge was allowed."""
    first, second = await gate.charge(user_id), await gate.charge(user_id)
    if second.allowed:
        await gate.refund(second)
    else:
        await gate.grant(user_id, 2)
    return first.allowed


def main(what: str, *arguments: str) -> int:
    """Do what the command line says."""
    if what == "burst":
        user, count = arguments
        return asyncio.run(burst(UUID(user), int(count)))
    seconds, *users = arguments
    return asyncio.run(load([UUID(user) for user in users], float(seconds)))


if __name__ == "__main__":
    sys.stdout.write(f"{main(*sys.argv[1:])}\n")
