"""Opens users. Users that wait for a connection at the same time share one transaction.

A transaction costs five round trips and a commit to disk. Without sharing, a thousand new users at
once, as on a first day, would wait for a thousand transactions.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID

from psycopg.rows import DictRow

from faregate.adapters.postgres.pool import Pool
from faregate.adapters.postgres.queries import statement
from faregate.domain.errors import ArchiveUnavailableError

BATCH_SIZE_MAX = 64
#: How long a batch waits for a lock: briefly, since the lock of one user delays all of them.
LOCK_MS_MAX = 100


@dataclass(slots=True, eq=False)
class _Batch:
    is_provisioned: bool
    loop: asyncio.AbstractEventLoop
    user_ids: set[UUID] = field(default_factory=set)
    #: Whether the opening has been sent.
    is_sent: bool = False

    def takes(self, loop: asyncio.AbstractEventLoop, *, provision: bool) -> bool:
        is_alike = self.loop is loop and self.is_provisioned == provision
        return is_alike and not self.is_sent and len(self.user_ids) < BATCH_SIZE_MAX


class Openings:
    """Belongs to the event loop of its pool."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._last: tuple[_Batch, asyncio.Task[Mapping[UUID, DictRow]]] | None = None
        self._tasks: set[asyncio.Task[Mapping[UUID, DictRow]]] = set()

    async def open(self, user_id: UUID, *, provision: bool) -> DictRow | None:
        """Return the user to install in the live ledger; None for a user that does not exist.

        If Postgres refuses a batch, each of its users is opened alone.

        Raises:
            ArchiveUnavailableError: Postgres does not answer in time, or refuses this user.
        """
        batch, asking = self._batch(provision=provision)
        batch.user_ids.add(user_id)
        try:
            # A caller that is cancelled does not cancel the batch of the others.
            opened = await asyncio.shield(asking)
        except ArchiveUnavailableError as error:
            if len(batch.user_ids) == 1 or not getattr(error.__cause__, "sqlstate", None):
                raise
            opened = await self._ask(_Batch(provision, batch.loop, {user_id}))
        return opened.get(user_id)

    def _batch(self, *, provision: bool) -> tuple[_Batch, asyncio.Task[Mapping[UUID, DictRow]]]:
        """Return the batch that waits for a connection, or a new one."""
        loop = asyncio.get_running_loop()
        if self._last is None or not self._last[0].takes(loop, provision=provision):
            batch = _Batch(provision, loop)
            task = loop.create_task(self._ask(batch))
            self._last = batch, task
            self._tasks.add(task)
            task.add_done_callback(self._forget)
        return self._last

    def _forget(self, task: asyncio.Task[Mapping[UUID, DictRow]]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            # If all callers were cancelled, nothing else retrieves the exception.
            task.exception()

    async def _ask(self, batch: _Batch) -> Mapping[UUID, DictRow]:
        try:
            async with self._pool.connection("open users") as connection:
                batch.is_sent = True
                if len(batch.user_ids) > 1:
                    bound = {"lock_ms_max": str(LOCK_MS_MAX)}
                    await connection.execute(statement("bound_lock_wait"), bound)
                # Sorted, so that two batches never wait for each other.
                asked = {"user_ids": sorted(batch.user_ids), "provision": batch.is_provisioned}
                cursor = await connection.execute(statement("open_users"), asked)
                return {row.pop("id"): row for row in await cursor.fetchall()}
        finally:
            batch.is_sent = True

    async def aclose(self) -> None:
        """Cancel all batches."""
        # Without this, a batch that has not begun would accept users and never be sent.
        self._last = None
        tasks = [task for task in self._tasks if task.get_loop() is asyncio.get_running_loop()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
