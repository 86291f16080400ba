"""Callers in a closed loop: each asks, waits for the answer, and asks again."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self
from uuid import UUID

from redis import Redis

from benchmarks.statistics import percentile_ms
from benchmarks.targets import Target

#: What a 503 without a time of its own tells a client: `Retry-After: 1`.
RETRY_AFTER_MS = 1_000
#: Callers begin within this time of each other where they come back, as those of real life do.
_SPREAD_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How a target is asked."""

    callers: int
    seconds: float
    #: Which users there are, and how many; each caller goes through some of its own.
    users: str = "user"
    users_count: int = 1_000
    #: After how long a caller comes back that got no decision; None for when it is told to.
    back_ms: int | None = 1
    #: A decision that took longer is not counted as goodput; None to count all.
    timeout_ms: int | None = None
    #: For how long is asked in the same way before that, without counting.
    warm_up_s: float = 0.3
    #: After this many decisions it ends, too.
    decisions_max: int = 10**12


@dataclass(slots=True)
class Tally:
    """What came of it."""

    decisions_s: list[float] = field(default_factory=list)
    failures_s: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    refused: int = 0


@dataclass(frozen=True, slots=True)
class Clocks:
    """Time on the wall, and of the processors that this process and Redis have used."""

    wall_s: float
    client_s: float
    redis_s: float

    @classmethod
    def read(cls, redis: Redis) -> Self:
        """Read all three; Redis tells the time of all its threads."""
        told: dict[str, Any] = redis.info("cpu")
        redis_s = told["used_cpu_user"] + told["used_cpu_sys"]
        return cls(time.perf_counter(), time.process_time(), redis_s)


async def run(target: Target, load: Load, users: Sequence[UUID], redis: Redis) -> dict[str, Any]:
    """Ask for a while, and return what came of it in plain values."""
    if load.warm_up_s:
        await _ask_for(target, load, users, load.warm_up_s)
    before = Clocks.read(redis)
    tally = await _ask_for(target, load, users, load.seconds)
    after = Clocks.read(redis)
    return asdict(load) | _told(tally, load, before, after)


async def _ask_for(target: Target, load: Load, users: Sequence[UUID], seconds: float) -> Tally:
    tally = Tally()
    ends_at_s = time.perf_counter() + seconds
    callers = (
        _call(target, load, _own(users, number, load.callers), ends_at_s, tally)
        for number in range(load.callers)
    )
    await asyncio.gather(*callers)
    return tally


def _own(users: Sequence[UUID], number: int, callers: int) -> Sequence[UUID]:
    """Share the users out: where there are more callers, some have the same one."""
    if callers >= len(users):
        return [users[number % len(users)]]
    return users[number::callers]


async def _call(
    target: Target, load: Load, users: Sequence[UUID], ends_at_s: float, tally: Tally
) -> None:
    number, clock = 0, time.perf_counter
    if load.back_ms != 1:
        await asyncio.sleep(random.uniform(0, _SPREAD_S))  # noqa: S311
    while (began_at_s := clock()) < ends_at_s and len(tally.decisions_s) < load.decisions_max:
        try:
            is_allowed = await target.decide(users[number % len(users)])
        except Exception as error:
            # Whatever it is, it is no decision.
            tally.failures_s.append(clock() - began_at_s)
            tally.errors[type(error).__name__] += 1
            wait_s = _wait_ms(load, error) / 1_000
            await asyncio.sleep(min(wait_s, max(0.0, ends_at_s - clock())))
        else:
            tally.decisions_s.append(clock() - began_at_s)
            tally.refused += not is_allowed
        number += 1


def _wait_ms(load: Load, error: Exception) -> float:
    if load.back_ms is not None:
        return load.back_ms
    return getattr(error, "retry_after_ms", None) or RETRY_AFTER_MS


def _told(tally: Tally, load: Load, before: Clocks, after: Clocks) -> dict[str, Any]:
    seconds = after.wall_s - before.wall_s
    count = len(tally.decisions_s)
    good = count
    if load.timeout_ms is not None:
        good = sum(taken_s * 1_000 <= load.timeout_ms for taken_s in tally.decisions_s)
    answers_s = sorted(tally.decisions_s + tally.failures_s)
    decisions_s = sorted(tally.decisions_s)
    return {
        "seconds": round(seconds, 3),
        "decisions": count,
        "refused": tally.refused,
        "errors": dict(tally.errors),
        "rate": round(count / seconds, 1),
        "goodput": round(good / seconds, 1),
        "p50_ms": percentile_ms(decisions_s, 50),
        "p99_ms": percentile_ms(decisions_s, 99),
        "answers_p99_ms": percentile_ms(answers_s, 99),
        "client_cpu_us": _each_us(after.client_s - before.client_s, count),
        "redis_cpu_us": _each_us(after.redis_s - before.redis_s, count),
    }


def _each_us(seconds: float, count: int) -> float | None:
    return round(seconds * 1e6 / count, 2) if count else None
