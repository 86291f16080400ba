"""Renewal: begins new periods of idle users.

The ledger does not need it, since the first request of a period begins the period. It updates the
balances of idle users in Postgres. A period begins once, even if renewals and requests run at the
same time.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from faregate.domain.errors import AmountError
from faregate.gate import Gate

#: How many users are read from Postgres at once.
PAGE_SIZE_MAX = 1_000
#: How many users are renewed at once.
CONCURRENCY_MAX = 32

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewal:
    """The result of a renewal."""

    #: The number of users.
    users: int = 0
    #: The users whose period began, and the credits that this added.
    renewed: int = 0
    credits: int = 0
    #: The users whose balance would leave its range, so their period did not begin.
    out_of_range: int = 0

    def __add__(self, other: "Renewal") -> "Renewal":
        return Renewal(
            users=self.users + other.users,
            renewed=self.renewed + other.renewed,
            credits=self.credits + other.credits,
            out_of_range=self.out_of_range + other.out_of_range,
        )


async def renew_all(gate: Gate, on_progress: Progress | None = None) -> Renewal:
    """Begin the period of every user in Postgres whose last one is over.

    Args:
        gate: The gate with the policies.
        on_progress: Called with the number of users.

    Raises:
        LedgerUnavailableError, ArchiveUnavailableError: A server does not answer, or too many
            records are pending. Periods that began stand; another run begins the rest.
    """
    total, after = Renewal(), None
    turns = asyncio.Semaphore(CONCURRENCY_MAX)
    while page := await gate.users_after(after, PAGE_SIZE_MAX):
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(_renew(gate, user_id, turns)) for user_id in page]
        except ExceptionGroup as errors:
            # If one fails, the others fail or are cancelled; one error is raised.
            raise errors.exceptions[0] from errors
        total = sum((task.result() for task in tasks), total)
        after = page[-1]
        if on_progress is not None:
            on_progress(total.users)
    return total


async def _renew(gate: Gate, user_id: UUID, turns: asyncio.Semaphore) -> Renewal:
    async with turns:
        try:
            added = await gate.renew(user_id) or 0
        except AmountError:
            return Renewal(users=1, out_of_range=1)
    return Renewal(users=1, renewed=1 if added else 0, credits=added)
