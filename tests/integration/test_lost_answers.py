"""A primary is killed under load: what was promised to be safe is there, the rest is named."""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, suppress
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest
from redis import Redis

from durable_gates import CREDITS, MONEY, RATE, charge_until_allowed, gate_at, lost_count
from faregate import Gate, Verdict
from faregate.adapters.memory.store import MemoryStore
from faregate.adapters.redis.lost import LostReport
from faregate.adapters.redis.stream import RedisStream
from faregate.cli.servers import Binaries
from faregate.domain.errors import LedgerError
from own_redis import own_redis
from redis_ledger import KEYS, records_after
from replicated import Replicated, replicated
from waiting import until

pytestmark = [pytest.mark.redis, pytest.mark.cluster, pytest.mark.long]

CALLERS = 8


@pytest.fixture
def pair(binaries: Binaries) -> Iterator[Replicated]:
    with replicated(binaries.redis) as running:
        yield running


class Load:
    """Charges users of one gate without a pause, and notes which charges were answered."""

    def __init__(self, gate: Gate, tier: str) -> None:
        self._gate = gate
        self._tier = tier
        self.answered: set[UUID] = set()
        self.unanswered = 0

    async def _charge(self) -> None:
        user_id = uuid4()
        while True:
            with suppress(LedgerError):
                decision = await self._gate.charge(user_id, tier=self._tier)
                if decision.allowed:
                    self.answered.add(decision.transaction_id.value)
                    continue
                # Nothing is answered, so the queue is full.
                assert decision.verdict is Verdict.OVERLOADED
            self.unanswered += 1
            await asyncio.sleep(0.01)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Charge during the block."""
        callers = [asyncio.create_task(self._charge()) for _ in range(CALLERS)]
        try:
            yield
        finally:
            for caller in callers:
                caller.cancel()
            ends = await asyncio.gather(*callers, return_exceptions=True)
            assert {type(end) for end in ends} == {asyncio.CancelledError}

    async def more(self) -> None:
        """Wait for some more answers."""
        count = len(self.answered) + 50
        await until(lambda: len(self.answered) >= count, "more is charged")


async def lose(pair: Replicated, *loads: Load) -> None:
    """Lose what is answered in the last moments of a primary, and go on with its replica."""
    await asyncio.gather(*(load.more() for load in loads))
    await asyncio.to_thread(pair.cut_off)
    await asyncio.gather(*(load.more() for load in loads if load.unanswered == 0))
    await asyncio.to_thread(pair.fail_over)
    await asyncio.gather(*(load.more() for load in loads))


def missing(pair: Replicated, load: Load) -> set[UUID]:
    """Return what a load was answered, and the primary does not have."""
    entries = pair.entries(KEYS.stream)
    return {one for one in load.answered if one.bytes not in entries}


def has_told(gates: tuple[Gate, ...], counts: list[int]) -> bool:
    return [lost_count(gate) for gate in gates] == counts


def reports(pair: Replicated) -> list[LostReport]:
    with closing(Redis.from_url(pair.url)) as client:
        asking: Any = client
        return [LostReport.unpack(*one) for one in asking.hgetall(KEYS.lost).items()]


async def test_nothing_that_a_replica_has_confirmed_is_lost(pair: Replicated) -> None:
    """While the primary writes for nobody, nothing is answered; then the replica goes on."""
    async with gate_at(pair.url) as gate:
        load = Load(gate, MONEY)
        async with load.running():
            await load.more()
            await asyncio.to_thread(pair.cut_off)
            unanswered = load.unanswered
            await until(lambda: load.unanswered > unanswered + CALLERS, "nothing is confirmed")
            await asyncio.to_thread(pair.fail_over)
            await load.more()
        assert missing(pair, load) == set()
        assert (lost_count(gate), reports(pair)) == (0, [])


async def test_lost_answers_are_named_once_by_each_of_two_gates(pair: Replicated) -> None:
    """Exactly those that the callers were given and that the new primary lacks; twice in a row."""
    store = MemoryStore(starting_credits=CREDITS)
    lost: set[UUID] = set()
    async with gate_at(pair.url, store) as one, gate_at(pair.url, store) as other:
        loads = [Load(one, RATE), Load(other, RATE)]
        for _ in range(2):
            told = [lost_count(gate) for gate in (one, other)]
            async with loads[0].running(), loads[1].running():
                await lose(pair, *loads)
            of_gates = [missing(pair, load) - lost for load in loads]
            assert all(of_gates), "both gates answered what was lost"
            expected = [n + len(own) for n, own in zip(told, of_gates, strict=True)]
            await until(partial(has_told, (one, other), expected), "both tell")
            found = reports(pair)
            ids = [identity for report in found for identity in report.ids]
            assert len(ids) == len(set(ids))
            assert set(ids) >= of_gates[0] | of_gates[1]
            assert set(ids) <= lost | of_gates[0] | of_gates[1]
            assert len({report.gate for report in found}) == 2
            assert not any(report.is_at_least for report in found)
            lost |= of_gates[0] | of_gates[1]


async def test_a_history_that_goes_on_is_never_told_to_be_lost(binaries: Binaries) -> None:
    """After a restart with its file, after a lost connection, and where entries were trimmed."""
    options = "--appendonly", "yes", "--appendfsync", "always"
    with own_redis(binaries.redis, *options) as server:
        async with gate_at(server.url) as gate:
            load = Load(gate, RATE)
            async with load.running():
                await load.more()
                server.kill()
                assert server.process is not None
                assert server.process.returncode == -signal.SIGKILL
                await asyncio.to_thread(server.start)
                await load.more()
                with Redis.from_url(server.url) as client:
                    assert client.client_kill_filter(_type="normal", skipme=True)
                await load.more()
            with (
                Redis.from_url(server.url) as client,
                closing(RedisStream(client, 1, stored_ms=0)) as stream,
            ):
                assert list(records_after(stream))
                batch = stream.read(0, None, 1_000_000)
                assert batch is not None
                stream.note_stored(0, batch.end)
                assert client.xlen(KEYS.stream) < len(load.answered)
                client.client_kill_filter(_type="normal", skipme=True)
                await charge_until_allowed(gate, uuid4(), RATE)
                searches = gate._session.ledger._session.lost  # type: ignore[attr-defined]
                await until(lambda: not searches._tasks)
                assert not client.exists(KEYS.lost)
            assert lost_count(gate) == 0
