"""Connections: lent in turn, made for whoever comes next, and never left with an answer on them."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from faregate.adapters.redis.pool import ConnectionPool
from faregate.adapters.redis.runner import Patience, ScriptRunner
from faregate.cli.servers import ValkeyServer
from faregate.domain.errors import LedgerUnavailableError, OutcomeUnknownError
from processes import stopped
from waiting import WAIT_S_MAX, until

#: After which a wait that is in vain is given up.
SOON_S = 0.25


@pytest.fixture
async def pool(ledger_redis: str) -> AsyncIterator[ConnectionPool]:
    """A pool with room for one connection."""
    unbounded = ConnectionPool.from_url(ledger_redis)
    made = ConnectionPool(unbounded._make, count_max=1)
    yield made
    await made.aclose()


async def test_a_connection_is_lent_to_one_caller_at_a_time(pool: ConnectionPool) -> None:
    """The others wait, in the order in which they came."""
    first = await pool.take()
    turns: list[int] = []

    async def wait(number: int) -> None:
        connection = await pool.take()
        turns.append(number)
        pool.give_back(connection)

    waiting = [asyncio.create_task(wait(number)) for number in range(3)]
    await asyncio.sleep(0)
    assert turns == []
    pool.give_back(first)
    await asyncio.gather(*waiting)
    assert turns == [0, 1, 2]


async def test_a_caller_who_gives_up_waiting_takes_nobodys_place(pool: ConnectionPool) -> None:
    """Room that was given to it goes to the next one."""
    first = await pool.take()
    for _ in range(3):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(pool.take(), SOON_S)
    gone = asyncio.create_task(pool.take())
    await asyncio.sleep(0)
    pool.give_back(first)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    pool.give_back(await asyncio.wait_for(pool.take(), WAIT_S_MAX))


async def test_what_a_caller_gave_up_on_is_ready_for_the_next_one(
    own_redis: ValkeyServer,
) -> None:
    """Redis hangs in the middle of a handshake, and goes on: nobody needs to connect again."""
    pool = ConnectionPool.from_url(own_redis.url, connect_s_max=WAIT_S_MAX)
    with Redis.from_url(own_redis.url) as client:
        before = client.info("clients")["connected_clients"]
        with stopped(own_redis.pid):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(pool.take(), SOON_S)
            assert len(pool._making) == 1
        await asyncio.wait_for(asyncio.gather(*pool._making), WAIT_S_MAX)
        await asyncio.sleep(0)
        (idle,) = pool._idle
        connection = await pool.take()
        assert connection is idle
        await connection.send_command("PING")
        assert await connection.read_response() == b"PONG"
        pool.give_back(connection)
        assert client.info("clients")["connected_clients"] == before + 1
    await pool.aclose()


async def test_a_connection_that_the_server_has_closed_is_made_anew(
    pool: ConnectionPool, client: Redis
) -> None:
    """Its caller does not notice."""
    connection = await pool.take()
    await connection.send_command("CLIENT", "ID")
    number = await connection.read_response()
    pool.give_back(connection)
    client.client_kill_filter(_id=number)
    reader = connection._reader
    await until(lambda: reader is None or reader.at_eof(), "the connection is seen to be closed")
    connection = await pool.take()
    await connection.send_command("CLIENT", "ID")
    assert await connection.read_response() != number
    pool.give_back(connection)


async def test_a_connection_that_cannot_be_made_leaves_room(tmp_path: object) -> None:
    """However often it is tried."""
    pool = ConnectionPool.from_url(f"unix://{tmp_path}/none")
    for _ in range(200):
        with pytest.raises(RedisConnectionError):
            await pool.take()


async def test_a_hanging_redis_tells_what_was_sent_from_what_was_not(
    own_redis: ValkeyServer,
) -> None:
    """Without a connection nothing was; on one that is ready, it may be executed later."""
    runner = ScriptRunner.from_url(own_redis.url)
    await runner.command("PING")
    with stopped(own_redis.pid):
        patience = Patience(SOON_S)
        calls = [runner.run("due", ["fg:{s00}:holds"], [1], patience) for _ in range(3)]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
    kinds = sorted(type(outcome).__name__ for outcome in outcomes)
    names = [LedgerUnavailableError.__name__] * 2 + [OutcomeUnknownError.__name__]
    assert kinds == names
    assert await runner.command("PING") == b"PONG"
    await runner.aclose()


async def test_a_pool_that_is_closed_lends_nothing(pool: ConnectionPool) -> None:
    """Nobody would close what it made."""
    pool.give_back(await pool.take())
    await pool.aclose()
    with pytest.raises(LedgerUnavailableError):
        await pool.take()
