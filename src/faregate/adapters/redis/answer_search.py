"""Finds the decisions that Redis has lost, beside the lanes.

A gate remembers what it has lately told its callers (`answered`). When a link is made anew, or a
shard has moved to a node to which there is a link already, the history of a shard may be shorter.
So the newest answers are looked for in the streams, and those that are missing are logged, counted,
and reported into Redis, from where the worker takes them to Postgres.
"""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic
from typing import Any, TypeAlias
from uuid import UUID

from faregate.adapters.redis.answered import (
    REMEMBERED_S,
    Answered,
    AnswerLog,
    first_missing,
)
from faregate.adapters.redis.keys import Shard
from faregate.adapters.redis.lost import GATE_BYTES, LOST_IDS_MAX, LostReport
from faregate.adapters.redis.records import FIELD
from faregate.adapters.redis.values import ShardState
from faregate.domain.errors import FaregateError
from faregate.domain.health import CallCounts

#: The pauses between tries to ask a shard, in seconds: the first one doubles up to the last one.
PAUSE_S_MIN, PAUSE_S_MAX = 0.05, 1.0
#: The most logs of closed links. One that breaks again and again leaves a log each time.
LOGS_MAX = 32
#: Later than any entry.
_NEVER_MS = 1 << 62

#: Sends a command about a shard, which may be sent twice, and returns its reply.
Ask: TypeAlias = Callable[..., Awaitable[Any]]

_log = logging.getLogger(__name__)


class AnswerSearch:
    """The logs of all links of a gate, and the search after each new one."""

    def __init__(self, shards: Sequence[Shard], ask: Ask, counts: CallCounts) -> None:
        """Make it for one event loop. It sends nothing before there is something to look for."""
        self._shards = shards
        self._ask = ask
        self._counts = counts
        self._gate = os.urandom(GATE_BYTES)
        self._logs: list[AnswerLog] = []
        #: The shards to be looked at, and the tasks that do so, by number.
        self._due: set[int] = set()
        self._tasks: dict[int, asyncio.Task[None]] = {}
        #: When each newest report was written, by shard. A second failover may lose reports, too.
        self._reports: dict[int, list[tuple[float, LostReport]]] = {}
        #: Held while a whole log is read, so that one shard at a time uses the loop.
        self._reading = asyncio.Lock()

    def log_of_new_link(self) -> AnswerLog:
        """Return the log of a new link, and look for the answers that came by all others."""
        self._drop_needless()
        for shard in self._shards:
            self.start_search(shard)
        log = AnswerLog()
        self._logs.append(log)
        return log

    def _drop_needless(self) -> None:
        """Drop the logs of closed links that are empty or too many."""
        closed = [log for log in self._logs if log.is_closed and log][-LOGS_MAX:]
        self._logs = [log for log in self._logs if not log.is_closed or log in closed]

    def start_search(self, shard: Shard) -> None:
        """Look for the answers of a shard that came by any link until now."""
        if not any(self._logs):
            return
        self._due.add(shard.number)
        if shard.number not in self._tasks:
            task = asyncio.create_task(self._look_while_due(shard))
            self._tasks[shard.number] = task
            task.add_done_callback(_log_bug)

    async def _look_while_due(self, shard: Shard) -> None:
        pause_s = PAUSE_S_MIN
        try:
            while shard.number in self._due:
                self._due.discard(shard.number)
                try:
                    await self._repeat_reports(shard)
                    for log in tuple(self._logs):
                        await self._look(shard, log)
                except FaregateError as error:
                    _log.debug("search for lost answers failed: shard=%d: %s", shard.number, error)
                    self._due.add(shard.number)
                    await asyncio.sleep(pause_s)
                    pause_s = min(2 * pause_s, PAUSE_S_MAX)
        finally:
            del self._tasks[shard.number]
        if not self._tasks:
            for log in self._logs:
                # No later failover can lose these.
                log.forget_older(monotonic() - REMEMBERED_S)

    async def _repeat_reports(self, shard: Shard) -> None:
        """Write the newest reports once more; the worker stores each id once."""
        since_s = monotonic() - REMEMBERED_S
        newest = [one for one in self._reports.get(shard.number, ()) if one[0] >= since_s]
        self._reports[shard.number] = newest
        for _, report in newest:
            await self._ask(shard, "HSET", shard.lost, report.field, report.pack())

    async def _look(self, shard: Shard, log: AnswerLog) -> None:
        """Look for the answers of one log in one shard."""
        newest = log.newest(shard.number)
        if newest is not None and await self._is_there(shard, newest):
            return
        async with self._reading:
            answered = await log.of_shard(shard.number)
        oldest_ms = -1
        kept, first = answered, len(answered)
        # Entries may be trimmed meanwhile, and missing for this reason.
        while answered and oldest_ms != (now_ms := await self._oldest_ms(shard)):
            oldest_ms = now_ms
            kept = [one for one in answered if one.ms >= oldest_ms]
            first = await first_missing(kept, lambda one: self._is_there(shard, one))
        if first < len(kept):
            is_at_least = log.is_cut and first == 0 and len(kept) == len(answered)
            await self._tell(shard, log, kept[first:], is_at_least=is_at_least)

    async def _oldest_ms(self, shard: Shard) -> int:
        """Return the time from which the stream is complete: later than all without a ledger."""
        packed = await self._ask(shard, "GET", shard.state)
        return _NEVER_MS if packed is None else ShardState.unpack(packed).oldest_ms

    async def _is_there(self, shard: Shard, answered: Answered) -> bool:
        position = answered.position
        found = await self._ask(shard, "XRANGE", shard.stream, position, position)
        return bool(found) and answered.is_in(_payload(found[0][1]))

    async def _tell(
        self, shard: Shard, log: AnswerLog, lost: Sequence[Answered], *, is_at_least: bool
    ) -> None:
        """Report lost answers into Redis; then log and count them, once."""
        for report in _reports(self._gate, lost, is_at_least=is_at_least):
            await self._ask(shard, "HSET", shard.lost, report.field, report.pack())
            self._reports.setdefault(shard.number, []).append((monotonic(), report))
        log.forget_lost(shard.number, lost)
        count = sum(len(one.ids) for one in lost)
        self._counts.lost += count
        _log.warning(
            "history lost: shard=%d answers=%s%d from=%s",
            *(shard.number, "at least " if is_at_least else "", count, lost[0].position),
        )

    async def aclose(self) -> None:
        """Look for nothing more."""
        tasks = list(self._tasks.values())
        if tasks:
            numbers = ", ".join(map(str, sorted(self._tasks)))
            _log.warning("search for lost answers ended early: shards=%s", numbers)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


def _reports(gate: bytes, lost: Sequence[Answered], *, is_at_least: bool) -> list[LostReport]:
    """Return the reports about lost answers, none of which is too long."""
    reports: list[LostReport] = []
    position, ids = lost[0].position, list[UUID]()
    for one in lost:
        if ids and len(ids) + len(one.ids) > LOST_IDS_MAX:
            reports.append(LostReport(gate, position, ids, is_at_least and not reports))
            position, ids = one.position, []
        ids.extend(UUID(bytes=identity) for identity in one.ids)
    return [*reports, LostReport(gate, position, ids, is_at_least and not reports)]


def _payload(flat: Sequence[bytes]) -> bytes | None:
    """Return the bytes of an entry, as the reply has them; None for one of another kind."""
    return dict(zip(flat[::2], flat[1::2], strict=True)).get(FIELD)


def _log_bug(done: asyncio.Task[None]) -> None:
    """Log an unexpected error, since nobody waits for the task."""
    error = None if done.cancelled() else done.exception()
    if error is not None:
        _log.error("answers not looked for", exc_info=error)
