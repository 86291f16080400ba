"""The backends that must be equal, of which one is here: the ledger in memory.

Each backend has its own rows. Memory stands for one shard at a time, so it is there once for each.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self, cast
from uuid import UUID

from clocks import Clock
from faregate.adapters.memory.alignments import MemoryAccounts
from faregate.adapters.memory.ledger import MemoryLedger
from faregate.adapters.memory.store import MemoryStore
from faregate.adapters.memory.stream import MemoryStream
from faregate.adapters.redis import keys
from faregate.domain.attempt import Attempt
from faregate.domain.decision import Decision, Verdict
from faregate.domain.errors import FaregateError
from faregate.domain.transaction import CreditTransaction
from faregate.domain.user import User
from faregate.ports import Ledger, LiveAccounts, TransactionStream
from faregate_worker.drain import drain_step
from spec.steps import STARTING_CREDITS, USERS

#: More than any scenario needs, unless it says so.
PENDING_MAX = 100_000
#: Who asks again after a loss asks with an id that is too old.
REBUILD_MS = 70_000
#: How long after its start a ledger is asked for the first time.
START_MS = 1_000


@dataclass(frozen=True, slots=True)
class Seen:
    """What is there at one moment."""

    live: Mapping[UUID, User]
    #: The records that are not known to be rows, user by user.
    pending: Sequence[CreditTransaction]
    #: The records that have been appended since the last look, user by user.
    new: Sequence[CreditTransaction]
    #: How many holds are open.
    holds_count: int

    @classmethod
    def of(
        cls,
        live: Mapping[UUID, User],
        pending: Sequence[CreditTransaction],
        new: Sequence[CreditTransaction],
        holds_count: int,
    ) -> Self:
        """Make it of records in any order: those of one user have an order, and no others."""
        return cls(live, _in_order(pending), _in_order(new), holds_count)


class Backend(ABC):
    """A ledger with its stream, its rows and its clock."""

    name: str
    #: Each stream with the number of a shard in it.
    streams: Sequence[tuple[TransactionStream, int]]

    def __init__(self, clock: Clock, shard_count: int, pending_max: int) -> None:
        self.clock = clock
        self.shard_count = shard_count
        self.pending_max = pending_max
        self.store = MemoryStore(
            starting_credits=STARTING_CREDITS, shard_count=shard_count, now_ms=clock
        )

    @abstractmethod
    def ledger_of(self, user_id: UUID) -> Ledger:
        """Return the ledger that knows a user."""

    @abstractmethod
    async def decide(self, attempts: Sequence[Attempt]) -> list[Decision | FaregateError]:
        """Decide on attempts that arrive in one call, in their order."""

    @abstractmethod
    async def shadow_counts(self, policy: str) -> Mapping[Verdict, int]:
        """Return how often each verdict would have been given, over all shards."""

    @abstractmethod
    def sweep(self) -> int:
        """End all expired holds, as the worker does; return how many."""

    @abstractmethod
    async def look(self) -> Seen:
        """Return what is there now, and what has been appended since the last look."""

    @abstractmethod
    async def fill(self) -> None:
        """Let no more records be pending than there are now."""

    @abstractmethod
    def spoil(self, user_id: UUID) -> None:
        """Overwrite the account of a user."""

    @abstractmethod
    def accounts_of(self, user_id: UUID) -> LiveAccounts:
        """Return what looks at the account of a user and corrects it."""

    @abstractmethod
    def alter(self, user_id: UUID, amount: int | None) -> None:
        """Add to live credits past the ledger; None deletes the account."""

    @abstractmethod
    async def lose_all(self) -> None:
        """Lose all that is live, and begin again with nothing."""

    @abstractmethod
    async def attach(self) -> None:
        """Take over the identity that the rows have."""

    async def start(self) -> None:
        """Begin with the users that the rows know."""
        await self.attach()
        for user_id in USERS.values():
            user = await self.store.open(user_id, provision=True)
            assert user is not None
            assert await self.ledger_of(user_id).install(user)
        self.clock.advance(START_MS)

    async def lose(self) -> None:
        """Lose all that is live, and go on from the rows."""
        self.clock.advance(REBUILD_MS)
        await self.lose_all()
        self.store.begin_epoch((await self.store.identity()).epoch)
        await self.start()

    def drain(self, batch_size: int, *, dies: bool) -> None:
        """Make rows of all records, or die after a batch, before Redis is told; and trim."""
        rows = cast("Any", self.store)
        for stream, shard in self.streams:
            cursor, newest = None, self.store.cursors().get(shard)
            if dies and (batch := stream.read(shard, newest, batch_size)):
                self.store.store(batch)
            while not dies and (cursor is None or cursor != newest):
                cursor = newest
                _, newest = drain_step(stream, rows, shard, cursor, batch_size_max=batch_size)
                if newest is None:
                    break


def _in_order(records: Sequence[CreditTransaction]) -> Sequence[CreditTransaction]:
    return sorted(records, key=lambda record: (record.user_id, record.sequence))


class MemoryBackend(Backend):
    """The executable specification."""

    name = "memory"

    def __init__(
        self, clock: Clock, *, shard_count: int = 1, pending_max: int = PENDING_MAX
    ) -> None:
        super().__init__(clock, shard_count, pending_max)
        self._begin()

    async def lose_all(self) -> None:
        self._begin()

    def spoil(self, user_id: UUID) -> None:
        raise AssertionError("nothing in memory can be overwritten")

    def accounts_of(self, user_id: UUID) -> MemoryAccounts:
        return self._accounts[keys.shard_of(user_id, self.shard_count)]

    def alter(self, user_id: UUID, amount: int | None) -> None:
        users = self.ledger_of(user_id).state.users
        user = users.pop(user_id)
        if amount is not None:
            users[user_id] = replace(user, credits=user.credits + amount)

    def _begin(self) -> None:
        self._ledgers = [
            MemoryLedger(now_ms=self.clock, pending_max=self.pending_max)
            for _ in range(self.shard_count)
        ]
        self._accounts = [MemoryAccounts(one) for one in self._ledgers]
        self.streams = [(MemoryStream(one), shard) for shard, one in enumerate(self._ledgers)]
        self._seen: set[tuple[int, str]] = set()

    async def fill(self) -> None:
        for ledger in self._ledgers:
            ledger.records.pending_max = ledger.records.ordinal - ledger.records.stored

    def ledger_of(self, user_id: UUID) -> MemoryLedger:
        return self._ledgers[keys.shard_of(user_id, self.shard_count)]

    async def decide(self, attempts: Sequence[Attempt]) -> list[Decision | FaregateError]:
        outcomes: list[Decision | FaregateError] = []
        for attempt in attempts:
            try:
                outcomes.append(await self.ledger_of(attempt.spend.user_id).decide(attempt))
            except FaregateError as error:
                outcomes.append(error)
        return outcomes

    async def shadow_counts(self, policy: str) -> Mapping[Verdict, int]:
        total: Counter[Verdict] = Counter()
        for ledger in self._ledgers:
            total.update(await ledger.shadow_counts(policy))
        return total

    def sweep(self) -> int:
        return sum(ledger.sweep() for ledger in self._ledgers)

    async def look(self) -> Seen:
        live: dict[UUID, User] = {}
        new, pending = [], []
        for user_id in USERS.values():
            user = await self.ledger_of(user_id).read(user_id)
            live |= {user_id: user} if user else {}
        for shard, ledger in enumerate(self._ledgers):
            pending += list(ledger.pending.values())
            unseen = [place for place in ledger.pending if (shard, place) not in self._seen]
            self._seen.update((shard, place) for place in unseen)
            new += [ledger.pending[place] for place in unseen]
        holds_count = sum(len(ledger.state.open_holds()) for ledger in self._ledgers)
        return Seen.of(live, pending, new, holds_count)

    async def attach(self) -> None:
        identity = await self.store.identity()
        for ledger in self._ledgers:
            await ledger.attach(identity)
