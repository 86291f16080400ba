"""What is measured, as one question: may this user's request pass?

Each target runs in a process of its own, on plain asyncio and redis-py with hiredis, with one key a
user and a limit that nobody reaches. Those that share a pool of redis-py's are asked by at most
`CONNECTIONS_MAX` callers at once: its pool raises where it is asked for a hundred and first
connection, and a thousand connections would be slower than sixty-four.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol
from uuid import UUID

from redis.asyncio import Redis

from benchmarks.faregate_targets import FAREGATE_TARGETS
from benchmarks.servers import CREDITS, Place

CONNECTIONS_MAX = 64
REQUESTS_MAX = 1_000_000_000
#: As long as Faregate's record, so that both write as much.
_RECORD = b"x" * 96

#: The least that a credit gate can do: look, compare, take, and write a record, in one step.
BARE_SCRIPT = """
local left = redis.call('HGET', KEYS[1], 'c')
if not left or tonumber(left) < tonumber(ARGV[1]) then
  return -1
end
left = redis.call('HINCRBY', KEYS[1], 'c', -ARGV[1])
redis.call('XADD', KEYS[2], '*', 'd', ARGV[2])
return left
"""


class Target(Protocol):
    """One thing that is measured."""

    async def decide(self, user_id: UUID) -> bool:
        """Ask once. False is a refusal; what raises is no decision."""

    async def aclose(self) -> None:
        """Let go of all connections."""


class Asked:
    """A target that is one function, with at most `CONNECTIONS_MAX` callers at once."""

    def __init__(self, client: Redis, ask: Callable[[UUID], Awaitable[bool]]) -> None:
        self._client = client
        self._ask = ask
        self._room = asyncio.Semaphore(CONNECTIONS_MAX)

    async def decide(self, user_id: UUID) -> bool:
        """Ask, as soon as there is room."""
        async with self._room:
            return await self._ask(user_id)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()


async def bare(place: Place) -> Target:
    """A script call, as any user of redis-py would write it."""
    client = Redis.from_url(place.redis_url)
    sha = await client.script_load(BARE_SCRIPT)
    known: set[UUID] = set()

    async def ask(user_id: UUID) -> bool:
        if user_id not in known:
            await client.hset(f"bare:{user_id}", "c", str(CREDITS))
            known.add(user_id)
        left = await client.evalsha(sha, 2, f"bare:{user_id}", "bare:records", 1, _RECORD)
        return int(left) >= 0

    return Asked(client, ask)


async def limits(place: Place) -> Target:
    """`limits`, the fixed window, its fastest: no record, no balance."""
    from limits import RateLimitItemPerDay  # noqa: PLC0415
    from limits.aio.storage import RedisStorage  # noqa: PLC0415
    from limits.aio.strategies import FixedWindowRateLimiter  # noqa: PLC0415

    client = Redis.from_url(place.redis_url)
    storage = RedisStorage(
        f"async+{place.redis_url}",
        implementation="redispy",
        connection_pool=client.connection_pool,
    )
    limiter, item = FixedWindowRateLimiter(storage), RateLimitItemPerDay(REQUESTS_MAX)
    return Asked(client, lambda user_id: limiter.hit(item, str(user_id)))


async def throttled(place: Place) -> Target:
    """`throttled-py`, by GCRA, its fastest."""
    from throttled.asyncio import RedisStore, Throttled, per_day  # noqa: PLC0415

    store = RedisStore(server=place.redis_url)
    limiter = Throttled(using="gcra", quota=per_day(REQUESTS_MAX, REQUESTS_MAX), store=store)

    async def ask(user_id: UUID) -> bool:
        return not (await limiter.limit(str(user_id))).limited

    return Asked(store._backend.get_client(), ask)  # noqa: SLF001 - it cannot be closed otherwise.


async def pyrate(place: Place) -> Target:
    """`pyrate-limiter`: a log of requests in a sorted set for each user."""
    from benchmarks.pyrate_buckets import limiter_on  # noqa: PLC0415

    client = Redis.from_url(place.redis_url)
    limiter = await limiter_on(client, REQUESTS_MAX)
    return Asked(client, lambda user_id: limiter.try_acquire_async(str(user_id), blocking=False))


Open = Callable[[Place], Awaitable[Target]]

TARGETS: Mapping[str, Open] = {
    "bare": bare,
    "limits": limits,
    "throttled-py": throttled,
    "pyrate-limiter": pyrate,
    **FAREGATE_TARGETS,
}
