"""A process that asks one target: `python -m benchmarks.client TARGET REDIS_URL POSTGRES_URL`.

It reads one load a line, as JSON, and answers each by one line. It ends at the end of its input,
so that it does not outlive the process that started it.
"""

import asyncio
import json
import sys
from functools import cache

from redis import Redis

from benchmarks.load import Load, run
from benchmarks.servers import Place
from benchmarks.targets import TARGETS, Target
from benchmarks.users import user_ids


async def main(name: str, place: Place) -> None:
    """Serve loads until there are no more."""
    users = cache(user_ids)
    target = await TARGETS[name](place)
    print(json.dumps({"target": name}), flush=True)
    with Redis.from_url(place.redis_url) as redis:
        while line := await asyncio.to_thread(sys.stdin.readline):
            load = Load(**json.loads(line))
            told = await run(target, load, users(load.users, load.users_count), redis)
            print(json.dumps(told | {"health": health_of(target)}), flush=True)
    await target.aclose()


def health_of(target: Target) -> dict[str, object] | None:
    """Return what a gate says about itself; None of peers."""
    health = getattr(target, "health", None)
    return health() if health is not None else None


if __name__ == "__main__":
    _, target_name, redis_url, postgres_url = sys.argv
    asyncio.run(main(target_name, Place(redis_url=redis_url, postgres_url=postgres_url)))
