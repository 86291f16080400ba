"""Bytes of Redis an account, a pending record, and an idempotency key."""

import time
from dataclasses import asdict
from typing import Any

from redis import Redis

from benchmarks.bench import Bench, Sample
from benchmarks.internals import account_bytes, install_users
from benchmarks.load import Load
from benchmarks.users import user_ids

NAME = "memory"
#: A power of two, at which Redis's table of keys is as full as it gets.
ACCOUNTS = 2**15
RECORDS, RECORDS_QUICK = 30_000, 8_000
USERS = 1_000
PLAIN, KEYED = "faregate", "faregate + idempotency key"
#: So long it takes at most until Redis has written its log, and let go of what it held for that.
SETTLE_S = 1.5
_OF_CLIENTS = ("mem_clients_normal", "mem_aof_buffer", "used_memory_scripts")


def run(bench: Bench) -> list[Sample]:
    """Weigh Redis before and after."""
    with bench.servers.place() as place, bench.clients(place, [PLAIN, KEYED]) as clients:
        install_users(place.redis_url, user_ids("user", USERS))
        for client in clients.values():
            _charge(client, 1_000)
        empty = _bytes(place.redis_url)
        some = user_ids("more", ACCOUNTS)
        install_users(place.redis_url, some)
        with_accounts = _bytes(place.redis_url)
        count = RECORDS_QUICK if bench.plan.is_quick else RECORDS
        records = _charge(clients[PLAIN], count)
        with_records = _bytes(place.redis_url)
        keyed = _charge(clients[KEYED], count)
        with_keys = _bytes(place.redis_url)
        account = account_bytes(place.redis_url, some[:1_000])
    record = (with_records - with_accounts) / records
    values = {
        "an account": (with_accounts - empty) / ACCOUNTS,
        "an account, by MEMORY USAGE": account,
        "a pending record": record,
        "an idempotency key, beside its record": (with_keys - with_records) / keyed - record,
    }
    samples = []
    for variant, size in values.items():
        bench.say(f"memory: {variant}: {size:.1f} bytes")
        values_ = {"bytes": round(size, 1)}
        samples.append(Sample(scenario=NAME, case="", variant=variant, round=0, values=values_))
    return samples


def _charge(client: Any, count: int) -> int:
    load = Load(
        callers=16,
        seconds=60,
        users_count=USERS,
        decisions_max=count,
        warm_up_s=0,
    )
    return int(client.ask(asdict(load))["decisions"])


def _bytes(redis_url: str) -> int:
    """Return what Redis uses for data: all but what connections, its log and scripts take."""
    time.sleep(SETTLE_S)
    with Redis.from_url(redis_url) as client:
        told: dict[str, Any] = client.info("memory")
    return int(told["used_memory"]) - sum(int(told.get(name, 0)) for name in _OF_CLIENTS)
