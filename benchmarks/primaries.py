"""`python -m benchmarks.primaries`: the processor time of a decision on one to three primaries.

A call costs a fixed time and a time for each spend in it. On a cluster a call has one shard, so
calls are smaller than on one server. First the two times are measured on one server with one shard,
where callers alone decide how large a call is. Then a cluster of one, two and three primaries is
asked in the same way as one server. The gates run in this process, on one processor; what a
decision costs is compared, not how many there are a second.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from benchmarks import machine
from benchmarks.bench import Sample
from benchmarks.cluster import Used, cluster_url, running_cluster
from benchmarks.faregate_targets import PATIENT_MS
from benchmarks.processes import ROOT
from benchmarks.results import Results
from benchmarks.servers import CREDITS, Servers, open_servers, running_redis
from benchmarks.users import user_ids
from faregate import Gate, Settings, build_gate

RESULTS = ROOT / "benchmarks/primaries.json"
#: The scenarios.
CALLS, PRIMARIES = "calls", "primaries"
USERS = 1_000
SHARDS = 16
WARM_UP_S = 0.3
#: After this time a server has written its log.
SETTLE_S = 1.0
#: Of CALLS: several gates, as many processes have, so that the server does not wait for them.
GATES = 16
CALL_SIZES = (1, 4, 8, 16, 32)
CALLERS = (1, 64, 256)


@dataclass(frozen=True, slots=True)
class Asked:
    """Gates, the servers behind them, and their callers."""

    gates: Sequence[Gate]
    servers: Sequence[str]
    users: Sequence[UUID]

    async def ask(self, callers: int, seconds: float, idle_s: float) -> dict[str, float]:
        """Let some callers of each gate ask for a while; return what a decision has cost.

        Args:
            callers: Of each gate.
            seconds: How long they ask.
            idle_s: What the servers use in a second without a request, which is not counted.
        """
        await self._ask(callers, WARM_UP_S)
        calls = self._calls()
        used, client_s, began_s = Used.of(self.servers), time.process_time(), time.perf_counter()
        decisions = await self._ask(callers, seconds)
        taken_s, client_s = time.perf_counter() - began_s, time.process_time() - client_s
        spent = Used.of(self.servers).since(used)
        return {
            "callers": callers * len(self.gates),
            "rate": round(decisions / taken_s, 1),
            "redis_cpu_us": round(1e6 * (spent.cpu_s - idle_s * taken_s) / decisions, 2),
            "client_cpu_us": round(1e6 * client_s / decisions, 2),
            "call_spends": round(decisions / (self._calls() - calls), 2),
            "received_bytes": round(spent.received_bytes / decisions, 1),
            "sent_bytes": round(spent.sent_bytes / decisions, 1),
            "log_bytes": round(spent.log_bytes / decisions, 1),
        }

    async def install(self) -> None:
        """Bring in all users."""
        for users in (self.users[n::64] for n in range(64)):
            await asyncio.gather(*(self.gates[0].charge(user) for user in users))

    async def idle_s(self) -> float:
        """Return the processor time of the servers in a second without a request, in seconds."""
        await asyncio.sleep(SETTLE_S)
        used, began_s = Used.of(self.servers), time.perf_counter()
        await asyncio.sleep(1)
        return Used.of(self.servers).since(used).cpu_s / (time.perf_counter() - began_s)

    async def _ask(self, callers: int, seconds: float) -> int:
        ends_at_s = time.perf_counter() + seconds
        count = callers * len(self.gates)
        asking = (
            _call(self.gates[number % len(self.gates)], self.users[number::count], ends_at_s)
            for number in range(count)
        )
        return sum(await asyncio.gather(*asking))

    def _calls(self) -> int:
        counts = [gate.health().calls for gate in self.gates]
        return int(sum(sum(one.spends.cells[:-1]) for one in counts if one is not None))


async def _call(gate: Gate, users: Sequence[UUID], ends_at_s: float) -> int:
    count = 0
    while time.perf_counter() < ends_at_s:
        await gate.charge(users[count % len(users)])
        count += 1
    return count


async def measure(
    settings: Settings, servers: Sequence[str], gates: int, loads: Sequence[int], seconds: float
) -> list[dict[str, float]]:
    """Open gates, and measure each number of callers."""
    opened = [build_gate(settings) for _ in range(gates)]
    try:
        for gate in opened:
            await gate.start()
        asked = Asked(opened, servers, user_ids("user", USERS))
        await asked.install()
        idle_s = await asked.idle_s()
        return [await asked.ask(callers, seconds, idle_s) for callers in loads]
    finally:
        for gate in opened:
            await gate.aclose()


@contextmanager
def places(servers: Servers, primaries: int, shards: int) -> Iterator[tuple[Settings, list[str]]]:
    """Make a ledger on some primaries; on one plain server for none."""
    running = running_cluster(servers.program, primaries) if primaries else None
    with servers.database(shards) as postgres_url:
        if running is None:
            with running_redis(servers.program) as url:
                yield _settings(url, postgres_url, shards), [url]
        else:
            with running as urls:
                yield _settings(cluster_url(urls), postgres_url, shards), list(urls)


def _settings(redis_url: str, postgres_url: str, shards: int) -> Settings:
    return Settings(
        redis_url=redis_url,
        postgres_url=postgres_url,
        shard_count=shards,
        starting_credits=CREDITS,
        provision_users=True,
        decision_timeout_ms=PATIENT_MS,
    )


def run(
    servers: Servers, number: int, primaries: Sequence[int], seconds: float
) -> Iterator[Sample]:
    """Measure everything once."""
    # Gates, shards and callers; a call of the first has one shard, as each call on a cluster has.
    with places(servers, 0, 1) as (settings, urls):
        told = asyncio.run(measure(settings, urls, GATES, CALL_SIZES, seconds))
    for size, values in zip(CALL_SIZES, told, strict=True):
        yield _sample(CALLS, str(size), "one shard", number, values)
    for count in (0, *primaries):
        with places(servers, count, SHARDS) as (settings, urls):
            told = asyncio.run(measure(settings, urls, 1, CALLERS, seconds))
        for callers, values in zip(CALLERS, told, strict=True):
            yield _sample(
                PRIMARIES, str(callers), f"{count}" if count else "server", number, values
            )


def _sample(scenario: str, case: str, variant: str, number: int, values: Any) -> Sample:
    print(f"{scenario} {number + 1}: {case}, {variant}: {values}", file=sys.stderr, flush=True)
    return Sample(scenario=scenario, case=case, variant=variant, round=number, values=values)


def main(arguments: Sequence[str]) -> int:
    """Run; return the exit status."""
    parser = argparse.ArgumentParser(prog="make bench-primaries")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--primaries", type=int, nargs="*", default=[1, 2, 3])
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args(arguments)
    before = machine.load()
    with open_servers() as servers:
        samples = [
            sample
            for number in range(given.rounds)
            for sample in run(servers, number, given.primaries, given.seconds)
        ]
    results = Results(
        facts=machine.facts(),
        load_before=before,
        load_after=machine.load(),
        rounds=given.rounds,
        samples=samples,
    )
    results.write(given.results)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
