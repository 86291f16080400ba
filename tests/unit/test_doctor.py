"""The doctor: each rule by itself, with how bad it is and what puts it right."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from faregate.domain.errors import ArchiveUnavailableError, LedgerUnavailableError
from faregate.domain.fork import RecentForks
from faregate.domain.order import OrderCounts
from faregate.domain.replication import LiveNode, LiveRedis, Replica
from faregate.domain.server import DurableServer, LiveServer, Queue
from faregate.ops.doctor import Backlog, Probe, examine
from well_redis import WELL_REDIS as REDIS

NODE = LiveNode(name="10.0.0.1:6379", shards=16, server=REDIS)
POSTGRES = DurableServer(
    version="17.2",
    migrations_pending=[],
    is_unsettled=False,
    clock_ahead_ms=0,
)
QUEUE = Queue(workers=1, suspended=False)
WELL: dict[str, Any] = {
    "redis": REDIS,
    "postgres": POSTGRES,
    "queue": QUEUE,
    "ledger": {"problems": [], "closed_shards": 0},
    "records": Backlog(pending=5, oldest_s=1.0),
    "orders": OrderCounts(waiting=5, oldest_s=1.0, refused=0),
    "dead_letters": {},
    "forks": RecentForks(forks=0, kept=0, lost=0, users_waiting=0),
    "reconciliation": {"users": 5, "findings": {}, "ended_at": datetime.now(UTC)},
}


def followed(replica: Replica) -> LiveRedis:
    """Return a server with one replica."""
    server = replace(REDIS, replicas=1, needs_replicas=True)
    return LiveRedis(nodes=(replace(NODE, server=server, replicas=(replica,)),))


#: A part, what it says, how bad that is, and a word of the detail and of the remedy.
RULES: dict[str, tuple[str, Any, str, str, str]] = {
    "a replica": ("redis", replace(REDIS, role="slave"), "error", "replica", "FAREGATE_REDIS_URL"),
    "eviction": (
        "redis",
        replace(REDIS, eviction_policy="allkeys-lru"),
        "error",
        "allkeys-lru",
        "maxmemory-policy noeviction",
    ),
    "no file": ("redis", replace(REDIS, append_only=False), "error", "append", "appendonly yes"),
    "a full disk": ("redis", replace(REDIS, append_failed=True), "error", "write", "disk"),
    "no fsync": (
        "redis",
        replace(REDIS, append_fsync="no"),
        "error",
        "sync",
        "appendfsync everysec",
    ),
    "a replica that is not waited for": (
        "redis",
        replace(REDIS, replicas=1),
        "warning",
        "failover",
        "min-replicas-to-write 1",
    ),
    "a replica that is behind": (
        "redis",
        followed(Replica(name="10.0.0.9:6379", is_online=True, lag_bytes=2_000_000, lag_s=0)),
        "warning",
        "2,000,000 bytes behind",
        "network",
    ),
    "a replica that is silent": (
        "redis",
        followed(Replica(name="10.0.0.9:6379", is_online=True, lag_bytes=0, lag_s=11)),
        "warning",
        "silent for 11 s",
        "log",
    ),
    "a replica that loads": (
        "redis",
        followed(Replica(name="10.0.0.9:6379", is_online=False, lag_bytes=9_000_000, lag_s=0)),
        "warning",
        "10.0.0.9:6379 still loads",
        "log",
    ),
    "a server that waits for replicas": (
        "redis",
        replace(REDIS, needs_replicas=True, refuses_writes=True),
        "error",
        "refuses writes",
        "start its replicas",
    ),
    "no limit": ("redis", replace(REDIS, memory_max=0), "warning", "limit", "maxmemory"),
    "little memory": ("redis", replace(REDIS, memory_used=900), "error", "90 %", "maxmemory"),
    "an old schema": (
        "postgres",
        replace(POSTGRES, migrations_pending=["a.sql"]),
        "error",
        "a.sql",
        "faregate migrate",
    ),
    "an owner": (
        "postgres",
        replace(POSTGRES, is_unsettled=True),
        "error",
        "owner of the tables",
        "faregate migrate",
    ),
    "no worker": ("queue", replace(QUEUE, workers=0), "error", "worker", "faregate worker"),
    "a pause": ("queue", replace(QUEUE, suspended=True), "error", "suspended", "rq resume"),
    "another ledger": (
        "ledger",
        {"problems": ["is empty"], "closed_shards": 0},
        "error",
        "is empty",
        "rebuild",
    ),
    "a move": (
        "ledger",
        {"problems": [], "closed_shards": 16},
        "error",
        "16 shards are closed",
        "faregate reopen",
    ),
    "a backlog": ("records", Backlog(pending=1, oldest_s=61.0), "error", "61 s", "--check"),
    "late orders": (
        "orders",
        OrderCounts(waiting=1, oldest_s=61.0, refused=0),
        "error",
        "61 s",
        "--check",
    ),
    "refused orders": (
        "orders",
        OrderCounts(waiting=0, oldest_s=0.0, refused=2),
        "warning",
        "2",
        "credits-by-sql.md",
    ),
    "a fork": (
        "forks",
        RecentForks(forks=1, kept=5, lost=2, users_waiting=0),
        "warning",
        "5 are rows, 2 answered",
        "faregate forks",
    ),
    "balances that wait": (
        "forks",
        RecentForks(forks=0, kept=0, lost=0, users_waiting=3),
        "error",
        "3 users",
        "worker --check",
    ),
    "dead letters": ("dead_letters", {"conflict": 2}, "warning", "2 conflict", "dead-letters list"),
    "a finding": (
        "reconciliation",
        {"findings": {"drift": 2}, "ended_at": datetime.now(UTC)},
        "error",
        "2 drift",
        "faregate reconcile",
    ),
    "an old comparison": (
        "reconciliation",
        {"findings": {}, "ended_at": datetime.now(UTC) - timedelta(hours=26)},
        "warning",
        "26 hours ago",
        "faregate reconcile",
    ),
    "clocks": ("redis", replace(REDIS, clock_ahead_ms=1_001), "warning", "1001 ms", "time server"),
}


def probes(**changed: Any) -> dict[str, Callable[[], Any]]:
    if isinstance(server := changed.get("redis", REDIS), LiveServer):
        changed["redis"] = LiveRedis(nodes=(replace(NODE, server=server),))
    return {part: (lambda said=said: said) for part, said in (WELL | changed).items()}  # type: ignore[misc]


def test_healthy_servers_have_no_symptoms() -> None:
    """What a role may not see is none either."""
    unseen = replace(POSTGRES, migrations_pending=None)
    seen = probes(redis=replace(REDIS, append_fsync=None), postgres=unseen, reconciliation={})
    found = examine(seen)
    assert (found.symptoms, found.is_well) == ([], True)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_each_rule_has_a_remedy(rule: tuple[str, Any, str, str, str]) -> None:
    """And nothing else is."""
    part, says, severity, detail, remedy = rule
    found = examine(probes(**{part: says}))
    (symptom,) = found.symptoms
    assert (symptom.part, symptom.severity) == (part, severity)
    assert detail in symptom.detail
    assert remedy in symptom.remedy
    assert found.is_well == (severity == "warning")


def test_a_part_that_does_not_answer_hides_no_other() -> None:
    """A server that is away is named once, however many parts ask it."""

    def away() -> None:
        raise LedgerUnavailableError("Redis did not answer")

    def also_away() -> None:
        raise ArchiveUnavailableError("cannot audit")

    asked = probes(dead_letters={"fork": 1})
    found = examine(asked | {"redis": away, "ledger": away, "records": also_away})
    assert [symptom.part for symptom in found.symptoms] == ["redis", "records", "dead_letters"]
    assert (found.facts["redis"], found.facts["records"]) == (None, None)
    assert "FAREGATE_REDIS_URL" in found.symptoms[0].remedy
    assert not found.is_well


def test_a_server_is_named_once_for_several_parts_that_failed_in_different_ways() -> None:
    """The queue has an error of its own, since its Redis may be another one."""

    def failing(error: Exception) -> Probe:
        def fail() -> None:
            raise error

        return fail

    asked = probes() | {
        "postgres": failing(ArchiveUnavailableError("cannot look")),
        "orders": failing(ArchiveUnavailableError("cannot count orders")),
        "redis": failing(LedgerUnavailableError("cannot ask Redis")),
        "ledger": failing(LedgerUnavailableError("cannot read marks")),
        "queue": failing(LedgerUnavailableError("cannot count workers")),
    }
    found = examine(asked)
    assert {symptom.part for symptom in found.symptoms} == {"redis", "postgres", "queue"}
