"""The backend that serves: Redis, by the clock of the tests."""

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast
from uuid import UUID

from redis import Redis
from redis.cluster import RedisCluster

from clocks import RedisClock, ToldClocks
from faregate.adapters.redis import keys
from faregate.adapters.redis.alignments import RedisAccounts
from faregate.adapters.redis.ledger import RedisLedger
from faregate.adapters.redis.stream import RedisStream
from faregate.adapters.redis.sweeper import RedisSweeper
from faregate.adapters.redis.values import Account
from faregate.domain.attempt import Attempt
from faregate.domain.decision import Decision, Verdict
from faregate.domain.errors import FaregateError
from faregate.domain.redis_url import RedisUrl
from faregate.domain.transaction import CreditTransaction
from faregate.domain.user import User
from faregate.domain.windows import RETENTION_MS
from redis_ledger import records_after, value
from spec.backends import PENDING_MAX, Backend, Seen
from spec.steps import DAY_MS, USERS

#: Longer than anything is remembered that is not remembered for good.
FORGOTTEN_MS = 40 * DAY_MS
#: Accounts, streams, states, the identity, counts of shadows, and the clock of the tests.
_FOR_GOOD = re.compile(rb"fg:\{\d+\}(u.{16}|c.{8}|:s|:tx|:ledger)$|test:", re.DOTALL)
#: A machine that is busy with other things is no reason to give up.
_TIMEOUT_MS = 30_000


class RedisBackend(Backend):
    """The adapters of Redis, on a server that is empty at first."""

    name = "redis"

    def __init__(
        self,
        client: Redis | RedisCluster,
        url: str,
        *,
        shard_count: int = 1,
        pending_max: int = PENDING_MAX,
    ) -> None:
        self.client = client
        self._url = url
        # Time begins anew, and ids of a stream cannot go back.
        client.flushall()
        tags = [_tag(shard) for shard in keys.shards(shard_count)]
        is_cluster = isinstance(client, RedisCluster)
        super().__init__(RedisClock(client, tags if is_cluster else [""]), shard_count, pending_max)
        # As the specification, which keeps records for no longer than they are searched for.
        address = RedisUrl.parse(url)
        self.stream = RedisStream(address, shard_count, stored_ms=RETENTION_MS)
        self.streams = [(self.stream, shard) for shard in range(shard_count)]
        self.accounts = RedisAccounts(address, shard_count)
        self.sweeper = RedisSweeper(address, shard_count, now_ms=self.clock)
        self._connect(pending_max)

    def _connect(self, pending_max: int) -> None:
        ToldClocks.clock = self.clock
        self.ledger = RedisLedger.from_url(
            self._url,
            shard_count=self.shard_count,
            pending_max=pending_max,
            decision_timeout_ms=_TIMEOUT_MS,
        )
        self._seen: set[tuple[int, str]] = set()

    async def aclose(self) -> None:
        await self.ledger.aclose()
        self.stream.close()
        self.sweeper.close()
        self.accounts.close()

    async def lose_all(self) -> None:
        await self.ledger.aclose()
        self.client.flushall()
        self.clock.advance(0)
        self._connect(self.pending_max)

    def spoil(self, user_id: UUID) -> None:
        self.client.set(keys.account(user_id, self.shard_count), b"?")

    def accounts_of(self, user_id: UUID) -> RedisAccounts:
        return self.accounts

    def alter(self, user_id: UUID, amount: int | None) -> None:
        name = keys.account(user_id, self.shard_count)
        account = Account.unpack(value(self.client, name))
        if amount is None:
            self.client.delete(name)
        else:
            self.client.set(name, replace(account, credits=account.credits + amount).pack())

    async def fill(self) -> None:
        seen = self._seen
        await self.ledger.aclose()
        self._connect(max(map(len, self._pending())))
        self._seen = seen
        await self.attach()

    def ledger_of(self, user_id: UUID) -> RedisLedger:
        return self.ledger

    async def decide(self, attempts: Sequence[Attempt]) -> list[Decision | FaregateError]:
        # All attempts of a call have one deadline.
        (deadline_ms,) = {attempt.deadline_ms for attempt in attempts}
        ToldClocks.ahead_ms = deadline_ms - _TIMEOUT_MS - self.clock()
        outcomes = await asyncio.gather(*map(self.ledger.decide, attempts), return_exceptions=True)
        ToldClocks.ahead_ms = 0
        for outcome in outcomes:
            if not isinstance(outcome, Decision | FaregateError):
                raise outcome
        return cast("list[Decision | FaregateError]", outcomes)

    async def shadow_counts(self, policy: str) -> Mapping[Verdict, int]:
        return await self.ledger.shadow_counts(policy)

    def sweep(self) -> int:
        return sum(self.sweeper.sweep(shard) for shard in range(self.shard_count))

    async def look(self) -> Seen:
        live: dict[UUID, User] = {}
        pending, new = [], []
        for user_id in USERS.values():
            user = await self.ledger.read(user_id)
            live |= {user_id: user} if user else {}
        for shard, records in enumerate(self._pending()):
            pending += list(records.values())
            unseen = [place for place in records if (shard, place) not in self._seen]
            self._seen.update((shard, place) for place in unseen)
            new += [records[place] for place in unseen]
        return Seen.of(live, pending, new, len(self.sweeper.open_holds()))

    async def check_nothing_is_left(self) -> None:
        """Make sure that no key stays that is not kept for good, once all is over."""
        self.clock.advance(DAY_MS)
        self.sweep()
        self.clock.advance(FORGOTTEN_MS)
        self.drain(batch_size=1_000, dies=False)
        assert not self.left(), self.left()

    def left(self) -> set[bytes]:
        """Return the keys that are there and not kept for good."""
        names = {bytes(name) for name in self.client.scan_iter()}
        return {name for name in names if not _FOR_GOOD.match(name)}

    def _pending(self) -> list[dict[str, CreditTransaction]]:
        """Return the records of each shard that Redis does not know to be rows, by their places."""
        found = []
        for shard, state in enumerate(self.stream._states.read()):
            records: dict[str, CreditTransaction] = {}
            kept = list(records_after(self.stream, shard))
            stored_count = len(kept) - (state.pending_count if state else 0)
            for entry in kept[stored_count:]:
                assert entry.transaction is not None, entry.problem
                records[entry.stream_id] = entry.transaction
            found.append(records)
        return found

    async def attach(self) -> None:
        await self.ledger.attach(await self.store.identity())


def _tag(shard: keys.Shard) -> str:
    """Return the hash tag of a shard, with its braces."""
    base = shard.base.decode()
    return base[base.index("{") :]
