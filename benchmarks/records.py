"""Records as calls under load write them, for the benchmark of the drain."""

import random
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import accumulate
from uuid import UUID

from faregate.adapters.redis import keys
from faregate.adapters.redis.layouts import ENTRY, RECORD, VERSION

CREDITS = 1_000_000
SHARDS = 16
#: As many records as a call under load has in a shard.
ENTRY_RECORDS = 16
SEED = 20_261_126


@dataclass(frozen=True, slots=True)
class Load:
    """Who is charged."""

    name: str
    users: int
    is_zipf: bool


LOADS = (
    Load("10 k users, Zipf", 10_000, is_zipf=True),
    Load("100 k users, uniform", 100_000, is_zipf=False),
)


@dataclass(slots=True)
class Made:
    """Records in the order of each shard, as entries."""

    users: list[UUID]
    entries: list[list[bytes]] = field(default_factory=lambda: [[] for _ in range(SHARDS)])
    counts: list[int] = field(default_factory=lambda: [0] * SHARDS)


def make(load: Load, rows: int) -> Made:
    """Make charges of one credit each."""
    chance = random.Random(SEED)  # noqa: S311
    users = [UUID(int=chance.getrandbits(128), version=4) for _ in range(load.users)]
    weights = [1 / rank for rank in range(1, load.users + 1)] if load.is_zipf else None
    summed = list(accumulate(weights)) if weights else None
    made = Made(users)
    charge(made, chance.choices(users, cum_weights=summed, k=rows), chance)
    return made


def charge(
    made: Made, users: Iterable[UUID], chance: random.Random, *, rows: int = 1
) -> Counter[UUID]:
    """Add charges of users who have so many rows each; return how many each user has got."""
    counts: Counter[UUID] = Counter()
    waiting: defaultdict[int, list[bytes]] = defaultdict(list)
    now_us = time.time_ns() // 1_000
    for user in users:
        shard = keys.shard_of(user, SHARDS)
        counts[user] += 1
        place = rows + counts[user]
        identity = chance.randbytes(16)
        waiting[shard].append(
            RECORD.pack(RECORD.size, 1, 0, identity, user.bytes, -1, CREDITS + 1 - place, place)
        )
        if len(waiting[shard]) == ENTRY_RECORDS:
            _close(made, shard, waiting.pop(shard), now_us)
    for shard, records in waiting.items():
        _close(made, shard, records, now_us)
    return counts


def _close(made: Made, shard: int, records: list[bytes], now_us: int) -> None:
    first = made.counts[shard] + 1
    header = ENTRY.pack(VERSION, 1, first.to_bytes(6), len(records), now_us.to_bytes(7))
    made.entries[shard].append(header + b"".join(records))
    made.counts[shard] += len(records)
