"""Renewal: begins new periods of users who make no requests.

Nothing depends on it: the first request of a period begins the period in the same step. Renewal
keeps the balances of idle users in Postgres current. A period is begun once, however many renewals
and requests run at the same time.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from faregate.domain.errors import AmountError
from faregate.gate import Gate

#: How many users are read from Postgres at a time.
PAGE_SIZE_MAX = 1_000
#: How many of them are asked about at once.
CONCURRENCY_MAX = 32

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewal:
    """The result of a renewal."""

    #: How many users were looked at.
    users: int = 0
    #: Whose period was begun, and how many credits that added in all.
    renewed: int = 0
    credits: int = 0
    #: Whose period would take the balance out of its range, and was not begun.
    out_of_range: int = 0

    def __add__(self, other: "Renewal") -> "Renewal":
        return Renewal(
            users=self.users + other.users,
            renewed=self.renewed + other.renewed,
            credits=self.credits + other.credits,
            out_of_range=self.out_of_range + other.out_of_range,
        )


async def renew_all(gate: Gate, on_progress: Progress | None = None) -> Renewal:
    """Begin the period of every user of Postgres whose earlier one is over.

    Args:
        gate: Whose policies say what a period brings.
        on_progress: Is told how many users have been looked at.

    Raises:
        LedgerUnavailableError, ArchiveUnavailableError: A server does not answer, or too many
            records wait. The periods that have begun stand; a second run begins the rest.
    """
    total, after = Renewal(), None
    turns = asyncio.Semaphore(CONCURRENCY_MAX)
    while page := await gate.users_after(after, PAGE_SIZE_MAX):
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(_renew(gate, user_id, turns)) for user_id in page]
        except ExceptionGroup as errors:
            # Where one fails the others do, too, or are cancelled: one of them tells why.
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
