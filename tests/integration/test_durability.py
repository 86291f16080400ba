"""Spends that are answered when a replica has them, or a disk."""

import asyncio
from collections.abc import Iterator
from time import perf_counter
from typing import Any
from uuid import uuid4

import pytest
from redis import Redis
from redis.exceptions import ResponseError

from asgi_client import USER, answers, call, http_scope
from durable_gates import (
    CREDITS,
    MONEY,
    SAFE,
    balance,
    charge_until_allowed,
    gate_at,
    lost_count,
)
from faregate import ConfigurationError, Durability, OutcomeUnknownError
from faregate.asgi import FaregateMiddleware, Rule
from faregate.cli.servers import Binaries
from replicated import Replicated, replicated

pytestmark = [pytest.mark.redis, pytest.mark.cluster]


@pytest.fixture
def pair(binaries: Binaries) -> Iterator[Replicated]:
    with replicated(binaries.redis) as running:
        yield running


async def test_what_no_replica_has_is_refused_and_voided(pair: Replicated) -> None:
    """A spend of another durability goes on at once, on the same server."""
    async with gate_at(pair.url) as gate:
        user_id = uuid4()
        await charge_until_allowed(gate, user_id, MONEY)
        with pair.stopped_replica():
            with pytest.raises(OutcomeUnknownError, match="not confirmed a copy on a replica"):
                await gate.charge(user_id, tier=MONEY)
            began_s = perf_counter()
            waits = asyncio.create_task(gate.charge(user_id, tier=MONEY))
            assert (await gate.charge(user_id)).allowed
            assert not waits.done()
            print(f"memory beside a stopped replica: {(perf_counter() - began_s) * 1e3:.1f} ms")  # noqa: T201
            with pytest.raises(OutcomeUnknownError):
                await waits
            assert await balance(gate, user_id) == CREDITS - 2
        await charge_until_allowed(gate, user_id, MONEY)
        assert await balance(gate, user_id) == CREDITS - 3
        assert gate.health().voids >= 2
        assert not lost_count(gate)


async def test_a_rule_asks_for_a_replica_and_its_clients_get_503_without_one(
    pair: Replicated,
) -> None:
    """The rules of other paths are served meanwhile."""
    async with gate_at(pair.url) as gate:
        app = FaregateMiddleware(
            answers(200),
            gate,
            identify=lambda _: USER,
            rules=[Rule(path="/orders", durability=Durability.REPLICA)],
        )
        assert (await call(app)).status == 200
        with pair.stopped_replica():
            assert (await call(app, http_scope(path="/orders"))).status == 503
            assert (await call(app)).status == 200
            assert await balance(gate, USER) == CREDITS - 2


async def test_a_retry_is_confirmed_like_the_spend_that_it_repeats(pair: Replicated) -> None:
    """A spend that is only read again is not known to be safe, though nothing is written."""
    async with gate_at(pair.url) as gate:
        user_id = uuid4()
        with pair.stopped_replica():
            first = await gate.charge(user_id, idempotency_key="order 7")
            assert first.allowed
            with pytest.raises(OutcomeUnknownError, match="not confirmed"):
                await gate.charge(user_id, tier=MONEY, idempotency_key="order 7")
        pair.wait_until_level()
        while True:
            try:
                again = await gate.charge(user_id, tier=MONEY, idempotency_key="order 7")
            except OutcomeUnknownError:
                continue
            break
        assert (again.repeated, again.transaction_id) == (True, first.transaction_id)
        assert await balance(gate, user_id) == CREDITS - 1


async def test_a_grant_is_confirmed_and_granted_once(pair: Replicated) -> None:
    """Without a replica it may be made, and the same key confirms it later."""
    async with gate_at(pair.url) as gate:
        user_id = uuid4()
        assert (await gate.charge(user_id)).allowed
        with pair.stopped_replica():
            for _ in range(2):
                with pytest.raises(OutcomeUnknownError, match="not confirmed"):
                    await gate.grant(
                        user_id, 50, idempotency_key="p7", durability=Durability.REPLICA
                    )
            assert (await gate.grant(user_id, 5, idempotency_key="p8")).allowed
        pair.wait_until_level()
        done = await gate.grant(user_id, 50, idempotency_key="p7", durability=Durability.REPLICA)
        assert done.repeated
        assert await balance(gate, user_id) == CREDITS - 1 + 55


async def test_a_redis_that_cannot_confirm_is_named(binaries: Binaries) -> None:
    """Before anything is spent; other durabilities are decided."""
    with replicated(binaries.redis) as pair:
        async with gate_at(pair.url) as gate:
            user_id = uuid4()
            with pytest.raises(ConfigurationError, match="WAITAOF needs Redis"):
                await gate.charge(user_id, tier=SAFE)
            with pytest.raises(ConfigurationError, match="durability disk"):
                await gate.grant(user_id, 1, durability=Durability.DISK)
            await charge_until_allowed(gate, user_id, MONEY)
            assert await balance(gate, user_id) == CREDITS - 1


async def test_two_disks_confirm_a_spend(binaries: Binaries) -> None:
    """Where the server knows WAITAOF; without a replica's disk the spend is voided."""
    with replicated(binaries.redis, "--appendonly", "yes", "--appendfsync", "always") as pair:
        with Redis.from_url(pair.url) as client:
            asking: Any = client
            try:
                has_wait = bool(asking.execute_command("WAITAOF", 0, 0, 1))
            except ResponseError:
                has_wait = False
        async with gate_at(pair.url) as gate:
            user_id = uuid4()
            if not has_wait:
                with pytest.raises(ConfigurationError, match="WAITAOF needs"):
                    await gate.charge(user_id, tier=SAFE)
                return
            await charge_until_allowed(gate, user_id, SAFE)
            with pair.stopped_replica(), pytest.raises(OutcomeUnknownError, match="its disk and"):
                await gate.charge(user_id, tier=SAFE)
            assert await balance(gate, user_id) == CREDITS - 1
