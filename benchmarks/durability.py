"""The cost of a confirmed charge: `PYTHONPATH=src:worker:tests python -m benchmarks.durability`.

It starts a primary and a replica, and prints the best of some rounds.
"""

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from time import perf_counter, process_time

from faregate.adapters.redis.ledger import RedisLedger
from faregate.cli.servers import Binaries
from faregate.domain.durability import Durability
from faregate.domain.policy import CreditPolicy
from redis_ledger import IDENTITY, install, make_ledger, spend
from replicated import replicated

CHARGES = 2_000
CALLERS = 1, 16, 128
#: Durabilities take turns, so that a busy machine does not favour one.
ROUNDS = 5


async def measure(
    ledger: RedisLedger, callers: int, policy: CreditPolicy
) -> tuple[float, float, float]:
    """Charge from a number of callers at once."""
    users = [await install(ledger, CHARGES) for _ in range(callers)]
    times: list[float] = []
    left = iter(range(CHARGES if callers > 1 else CHARGES // 4))

    async def charge(user: int, numbers: Iterator[int]) -> None:
        for _ in numbers:
            began_s = perf_counter()
            assert (await spend(ledger, users[user], policy=policy)).allowed
            times.append(perf_counter() - began_s)

    began_s, used_s = perf_counter(), process_time()
    await asyncio.gather(*(charge(user, left) for user in range(callers)))
    seconds, used_s = perf_counter() - began_s, process_time() - used_s
    return median(times) * 1e3, used_s / len(times) * 1e6, len(times) / seconds


async def compare(ledger: RedisLedger, callers: int, *, has_disk: bool) -> None:
    """Print the best round of each durability."""
    kinds = [one for one in Durability if has_disk or one is not Durability.DISK]
    rounds = [
        [await measure(ledger, callers, CreditPolicy(durability=kind)) for kind in kinds]
        for _ in range(ROUNDS)
    ]
    for kind, measured in zip(kinds, zip(*rounds, strict=True), strict=True):
        ms, used_us, _ = map(min, zip(*measured, strict=True))
        rate = max(one for *_, one in measured)
        print(
            f"{kind:8} {callers:4} callers: {rate:7.0f} charges/s, {ms:.2f} ms each (median),"
            f" {used_us:.0f} us of CPU",
            flush=True,
        )


async def main(program: Path) -> None:
    """Measure on a pair of servers, with and without disks."""
    for options in ((), ("--appendonly", "yes", "--appendfsync", "always")):
        with replicated(program, *options) as pair:
            ledger = make_ledger(pair.url)
            await ledger.attach(IDENTITY)
            print(program.name, *options)
            for callers in CALLERS:
                await compare(ledger, callers, has_disk=bool(options))
            await ledger.aclose()


if __name__ == "__main__":
    given = sys.argv[1:]
    asyncio.run(main(Path(given[0]) if given else Binaries.from_wheels().redis))
