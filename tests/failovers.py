"""Primaries that are killed while users pay, and what is left of their charges after each."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID

import psycopg

from cluster_rig import Cluster, Failover, slots_of
from cut_replication import Cut, replication_cut
from faregate import Durability, Gate
from faregate.adapters.redis import keys
from faregate.bootstrap import open_archive, open_stream
from loop_pauses import LoopPauses
from payers import Asked, Payer
from redis_ledger import records_after
from sentinel_rig import Sentinels
from tcp_redis import TcpRedis
from waiting import WAIT_S_MAX, until
from worker_process import System

_LOCK = "lock table public.credit_transactions in access exclusive mode"
#: Without starting rows, which Postgres makes and Redis never records.
_ROWS = "select id from public.credit_transactions where sequence > 1"
_TAKEN = (
    "select user_id, -sum(amount)::bigint from public.credit_transactions"
    " where type in ('deduct', 'refund') group by user_id"
)
#: How many charges of each user whose shard is hit come before and after a step of a fault.
CHARGES = 5


class Fleet(Protocol):
    """Servers of which primaries are killed: a cluster, or a service behind sentinels."""

    @property
    def url(self) -> str: ...
    def replicas(self, primary: TcpRedis) -> Sequence[TcpRedis]: ...
    def kill_primary(self, primary: TcpRedis) -> Failover: ...
    def revive(self, failover: Failover) -> None: ...


def shards_of(fleet: Fleet, among: Sequence[keys.Shard]) -> dict[TcpRedis, frozenset[int]]:
    """Return the shards of each server that has some."""
    if isinstance(fleet, Sentinels):
        return {fleet.primary(): frozenset(shard.number for shard in among)}
    assert isinstance(fleet, Cluster)
    slots = {node: slots_of(node) for node in fleet.primaries()}
    found = {
        node: frozenset(shard.number for shard in among if shard.slot in mine)
        for node, mine in slots.items()
    }
    return {node: shards for node, shards in found.items() if shards}


@dataclass(slots=True)
class Outage:
    """The time from a kill until a replica had taken over, by the clock of the event loop."""

    shards: frozenset[int]
    began_s: float
    ended_s: float
    #: How many entries the replica that took over lacked, at least.
    lacked: int


@dataclass(slots=True)
class Failovers:
    """Kills primaries while users pay."""

    fleet: Fleet
    system: System
    gate: Gate
    payers: Sequence[Payer]
    draw: random.Random
    outages: list[Outage] = field(default_factory=list)
    pauses: LoopPauses = field(default_factory=LoopPauses)

    @property
    def shards(self) -> Sequence[keys.Shard]:
        return keys.shards(self.system.settings.shard_count)

    def shard_of(self, user_id: UUID) -> int:
        return keys.shard_of(user_id, len(self.shards))

    @asynccontextmanager
    async def paying(self) -> AsyncIterator[None]:
        """Let all users pay during the block; no call hangs, and all unknown ones are voided."""
        over = asyncio.Event()
        tasks = [asyncio.ensure_future(one.pay(self.gate, over)) for one in self.payers]
        try:
            await self.wait_for_charges(range(len(self.shards)))
            await until(self._are_all_drained, "rows of each shard")
            async with self.pauses.noted():
                yield
        finally:
            over.set()
            async with asyncio.timeout(WAIT_S_MAX):
                await asyncio.gather(*tasks)
        assert await self.gate.retries.join(WAIT_S_MAX)

    def _are_all_drained(self) -> bool:
        with open_archive(self.system.settings) as archive:
            return len(archive.cursors()) == len(self.shards)

    async def wait_for_charges(self, shards: Sequence[int] | frozenset[int]) -> None:
        """Wait until each user of some shards was charged a few times more."""
        payers = [one for one in self.payers if self.shard_of(one.user_id) in shards]
        before = [len(one.charged) for one in payers]
        await until(
            lambda: all(
                len(one.charged) >= count + CHARGES
                for one, count in zip(payers, before, strict=True)
            ),
            f"charges in shards {[*shards]}",
        )

    async def strike(self, *, is_cut: bool) -> None:
        """Kill the primary of some shard, let a replica take over, and start it again."""
        found = await asyncio.to_thread(shards_of, self.fleet, self.shards)
        victim, lost = self.draw.choice([*found.items()])
        if is_cut:
            failover = await self._kill_cut_off(victim, lost)
        else:
            await asyncio.sleep(self.draw.uniform(0, 0.3))
            failover = await self._kill(victim, lost, 0)
        if all(one.durability is Durability.MEMORY for one in self.payers):
            # Others need a replica.
            await self.wait_for_charges(lost)
        await asyncio.to_thread(self.fleet.revive, failover)
        await self.wait_for_charges(lost)

    async def _kill_cut_off(self, victim: TcpRedis, lost: frozenset[int]) -> Failover:
        """Let the replicas lack records that are rows, and records that are none."""
        replicas = await asyncio.to_thread(self.fleet.replicas, victim)
        shards = [self.shards[number] for number in lost]
        with ExitStack() as cutting:
            cut = await asyncio.to_thread(cutting.enter_context, replication_cut(victim, replicas))
            await self._wait_until_lacking(cut, shards, CHARGES)
            newest = {shard.number: _newest(victim, shard) for shard in shards}
            await until(lambda: self._are_rows(newest), "rows of what replicas lack")
            async with self._rows_locked():
                await self._wait_until_lacking(cut, shards, 3 * CHARGES)
                lacked = sum(cut.lacks(shard.stream) for shard in shards)
                return await self._kill(victim, lost, lacked)

    async def _wait_until_lacking(self, cut: Cut, shards: Sequence[keys.Shard], count: int) -> None:
        def lacking() -> int:
            return sum(cut.lacks(shard.stream) for shard in shards)

        already = lacking()
        await until(lambda: lacking() >= already + count, "replicas lack more records")

    def _are_rows(self, positions: Mapping[int, tuple[int, ...]]) -> bool:
        with open_archive(self.system.settings) as archive:
            cursors = archive.cursors()
        return all(
            shard in cursors and _place(cursors[shard].position) >= place
            for shard, place in positions.items()
        )

    async def _kill(self, victim: TcpRedis, lost: frozenset[int], lacked: int) -> Failover:
        now_s = asyncio.get_running_loop().time
        began_s = now_s()
        failover = await asyncio.to_thread(self.fleet.kill_primary, victim)
        self.outages.append(Outage(lost, began_s, now_s(), lacked))
        return failover

    @asynccontextmanager
    async def _rows_locked(self) -> AsyncIterator[None]:
        connection = await psycopg.AsyncConnection.connect(self.system.database_url)
        async with connection:
            await connection.execute(_LOCK)
            yield
            await connection.rollback()


def _newest(node: TcpRedis, shard: keys.Shard) -> tuple[int, ...]:
    ((position, _),) = node.client.xrevrange(shard.stream, count=1)
    return _place(position.decode())


def _place(position: str) -> tuple[int, ...]:
    return tuple(map(int, position.split("-")))


@dataclass(frozen=True, slots=True)
class Left:
    """What is left after all failovers, as the test finds it without the product's own word."""

    #: The ids of all rows, and of all records in the streams, none of which was trimmed.
    rows: frozenset[UUID]
    history: frozenset[UUID]
    #: What each user has paid, by rows.
    taken: dict[UUID, int]

    @classmethod
    def of(cls, system: System) -> "Left":
        with psycopg.connect(system.database_url) as connection:
            rows = frozenset(one for (one,) in connection.execute(_ROWS))
            taken: dict[UUID, int] = dict(connection.execute(_TAKEN).fetchall())
        with open_stream(system.settings) as stream:
            history = frozenset(
                entry.transaction.id.value
                for shard in range(system.settings.shard_count)
                for entry in records_after(stream, shard)
                if entry.transaction
            )
        return cls(rows, history, taken)

    @property
    def kept(self) -> frozenset[UUID]:
        """The rows whose records Redis has lost."""
        return self.rows - self.history

    def lost(self, payers: Sequence[Payer]) -> dict[UUID, int]:
        """Return what users were told to have paid, and that is no row, by its id."""
        told = [decision for one in payers for decision in one.charged]
        return {
            one.transaction_id.value: -one.amount
            for one in told
            if one.transaction_id.value not in self.rows
        }


def percentile(asked: Sequence[Asked], share: float) -> float:
    """Return the time in milliseconds that a share of calls did not exceed."""
    took = sorted(one.took_s for one in asked)
    return 1_000 * took[min(len(took) - 1, int(share * len(took)))] if took else 0.0


def during(outages: Sequence[Outage], failovers: Failovers) -> dict[bool, list[Asked]]:
    """Return the calls during outages: those of shards that were hit (True), and all others."""
    found: dict[bool, list[Asked]] = {True: [], False: []}
    for payer in failovers.payers:
        shard = failovers.shard_of(payer.user_id)
        for one in payer.asked:
            for outage in outages:
                if outage.began_s <= one.at_s < outage.ended_s:
                    found[shard in outage.shards].append(one)
    return found


def _longest_without_pauses(failovers: Failovers) -> float:
    return max(
        one.took_s - failovers.pauses.within(one.at_s, one.took_s)
        for payer in failovers.payers
        for one in payer.asked
    )


def told_of(failovers: Failovers) -> str:
    """Say what users saw."""
    events = sum((one.events for one in failovers.payers), Counter[str]())
    asked = [one for payer in failovers.payers for one in payer.asked]
    hit, others = (during(failovers.outages, failovers)[key] for key in (True, False))
    parts = [
        f"{len(failovers.outages)} kills",
        ", ".join(f"{name} {count}" for name, count in sorted(events.items())),
        f"all: p99 {percentile(asked, 0.99):.0f} ms, longest {percentile(asked, 1):.0f} ms,"
        f" without pauses of the event loop {1_000 * _longest_without_pauses(failovers):.0f} ms",
        f"shards hit: p99 {percentile(hit, 0.99):.0f} ms of {len(hit)} calls",
        f"other shards: p50 {percentile(others, 0.5):.1f} ms, p99 {percentile(others, 0.99):.1f} ms"
        f" of {len(others)} calls",
        f"outages {', '.join(f'{one.ended_s - one.began_s:.1f}' for one in failovers.outages)} s",
    ]
    return "; ".join(parts)
