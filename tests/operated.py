"""A ledger as an operator meets it: a user, a gate of an application, and a worker."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from threading import Event, Thread
from typing import Any, TypeVar

from clocks import Seconds
from durable import Database
from faregate import Gate, Settings
from faregate.bootstrap import open_archive, open_gate, open_stream
from faregate.ops.erasure import Erasure
from faregate_worker.drain import DrainLimits
from faregate_worker.drain import drain as drain_shard
from waiting import WAIT_S_MAX

#: What each change by hand is told.
WHO = ("--actor", "ann", "--reason", "ticket 7")
LIMITS = DrainLimits(batch_size_max=1_000, seconds_max=WAIT_S_MAX)
#: How often a worker looks for users who were deleted, in seconds.
PAUSE_S = 0.05
_T = TypeVar("_T")


def drain(settings: Settings) -> None:
    """Make rows of all records."""
    with open_stream(settings) as stream, open_archive(settings) as archive:
        for shard in range(stream.shard_count):
            drain_shard(stream, archive, shard, limits=LIMITS)
        assert not stream.pending_count()


class Ledger:
    """A ledger with one user, its gate, and its worker."""

    def __init__(self, settings: Settings, tables: Database) -> None:
        self.settings = settings
        self.tables = tables
        self.user = tables.user().user_id

    def ask(self, call: Callable[[Gate], Awaitable[_T]]) -> _T:
        """Ask a gate of an application."""

        async def asked() -> _T:
            async with open_gate(self.settings) as gate:
                return await call(gate)

        return asyncio.run(asked())

    def charge(self) -> str:
        """Charge the user; return the id of the charge."""
        return str(self.ask(lambda gate: gate.charge(self.user)).transaction_id)

    def hold(self, estimate: int, ttl_ms: int = 60_000) -> str:
        """Hold credits of the user; return the id of the hold."""
        return str(self.ask(lambda gate: gate.hold(self.user, estimate, ttl_ms=ttl_ms)).id)

    def drain(self) -> None:
        """Make rows of all records."""
        drain(self.settings)

    def newest(self) -> dict[str, Any]:
        """The newest row of the user, once all records are rows."""
        self.drain()
        return self.tables.rows(self.user)[-1]


@contextmanager
def erasing(ledger: Ledger) -> Iterator[None]:
    """Erase users as a worker does, whose clock goes fast."""
    clock, is_over = Seconds(), Event()

    def work() -> None:
        with ExitStack() as opened:
            stream = opened.enter_context(open_stream(ledger.settings))
            archive = opened.enter_context(open_archive(ledger.settings))
            erasure = Erasure(stream.user_keys, archive, clock)
            while not is_over.wait(PAUSE_S):
                erasure.check_deletions()
                clock.advance(1.0)

    worker = Thread(target=work)
    worker.start()
    yield
    is_over.set()
    worker.join()
