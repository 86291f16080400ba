"""What it costs Redis to look for a record in a shard with 4,000 records a second.

The shard holds all records of the time for which a stream keeps them, all of one user. Each request
is asked for several times, with another id, and the time of all scripts that it runs is summed up.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from statistics import fmean, median

from benchmarks.bench import Bench, Sample
from benchmarks.full_shard import FullShard, full_shard
from benchmarks.users import user_ids
from faregate.domain.errors import UnresolvedError
from faregate.domain.transaction import CreditTransactionId

NAME = "lookups"
#: How often each request is asked for in a round.
TIMES = 24
#: The decision timeout of production, and the longest one.
SHORT_MS, LONG_MS = 50, 10_000
#: How old ids are: of a refund soon after its charge, of a caller that waited for long, and of a
#: deduct whose record is in the stream no more.
RECENT_MS, LATE_MS, OLD_MS = 1_000, 50_000, 95_000

#: Asks a shard about an id; returns the word by which it was answered.
Ask = Callable[[FullShard, CreditTransactionId], Awaitable[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Something that looks for a record."""

    ask: Ask
    #: How old the id is that it asks about.
    age_ms: int = 0
    #: Whether a record has the id, and whether the same was asked before.
    is_recorded: bool = False
    is_repeated: bool = False
    answer: str


REQUESTS: Mapping[str, Request] = {
    "retry, recorded": Request(
        ask=FullShard.retry, age_ms=SHORT_MS, is_recorded=True, answer="repeated"
    ),
    "retry, not recorded": Request(ask=FullShard.retry, age_ms=SHORT_MS, answer="allowed"),
    "retry after 10 s, recorded": Request(
        ask=FullShard.retry, age_ms=LONG_MS, is_recorded=True, answer="repeated"
    ),
    "retry after 10 s, not recorded": Request(
        ask=FullShard.retry, age_ms=LONG_MS, answer="allowed"
    ),
    "void, recorded": Request(
        ask=FullShard.void, age_ms=SHORT_MS, is_recorded=True, answer="refunded"
    ),
    "void, not recorded": Request(ask=FullShard.void, age_ms=SHORT_MS, answer="refused"),
    "void after 10 s, recorded": Request(
        ask=FullShard.void, age_ms=LONG_MS, is_recorded=True, answer="refunded"
    ),
    "void after 10 s, not recorded": Request(ask=FullShard.void, age_ms=LONG_MS, answer="refused"),
    "grant with a key": Request(ask=FullShard.grant_by_key, answer="allowed"),
    "grant with a key, again": Request(
        ask=FullShard.grant_by_key, is_repeated=True, answer="repeated"
    ),
    "grant with an id": Request(ask=FullShard.grant, answer="allowed"),
    "grant with an id, again": Request(ask=FullShard.grant, is_repeated=True, answer="repeated"),
    "refund by id": Request(
        ask=FullShard.refund, age_ms=RECENT_MS, is_recorded=True, answer="allowed"
    ),
    "refund by id after 50 s": Request(
        ask=FullShard.refund, age_ms=LATE_MS, is_recorded=True, answer="allowed"
    ),
    "refund by id of a row": Request(ask=FullShard.refund_row, age_ms=OLD_MS, answer="allowed"),
    "spend with a caller's id": Request(ask=FullShard.spend, answer="allowed"),
    "spend with a caller's id, again": Request(
        ask=FullShard.spend, is_repeated=True, answer="repeated"
    ),
    "spend with a caller's id of 50 s ago": Request(
        ask=FullShard.spend, age_ms=LATE_MS, answer="allowed"
    ),
}


def run(bench: Bench) -> list[Sample]:
    """Ask for everything, each once a round, in one shard."""
    with bench.servers.place() as place:
        return asyncio.run(_measured(bench, place.redis_url))


async def _measured(bench: Bench, redis_url: str) -> list[Sample]:
    (user_id,) = user_ids(NAME, 1)
    samples = []
    async with full_shard(redis_url, user_id) as shard:
        bench.say(f"{NAME}: a shard is filled")
        for number in range(bench.plan.rounds):
            for name, request in REQUESTS.items():
                sample = await _asked(shard, name, request, number)
                bench.say(f"{NAME} {number + 1}: {name}: {dict(sample.values)}")
                samples.append(sample)
    return samples


async def _asked(shard: FullShard, name: str, request: Request, number: int) -> Sample:
    """Ask for one thing with several ids."""
    shard.restore()
    costs_us, calls, answers = list[int](), list[int](), Counter[str]()
    for turn in range(TIMES):
        place = number * TIMES + turn
        asked = shard.recorded(request.age_ms, place) if request.is_recorded else None
        asked = asked or shard.unknown(request.age_ms)
        if request.is_repeated:
            await request.ask(shard, asked)
        calls_before, us_before = shard.script_calls()
        try:
            answers[await request.ask(shard, asked)] += 1
        except UnresolvedError:
            answers["unresolved"] += 1
        calls_after, us_after = shard.script_calls()
        costs_us.append(us_after - us_before)
        calls.append(calls_after - calls_before)
    values = {
        "redis_us": median(costs_us),
        "calls": round(fmean(calls), 1),
        "not_answered": TIMES - answers[request.answer],
    }
    return Sample(scenario=NAME, case="", variant=name, round=number, values=values)
