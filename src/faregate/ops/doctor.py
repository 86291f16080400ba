"""The doctor: checks the servers and the ledger, and reports faults with their remedies.

Each part is checked separately, so that a part that does not answer hides no other. It writes
nothing. All rules are here; a worker checks those of the servers when it starts.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from faregate.domain.errors import (
    ArchiveUnavailableError,
    ConfigurationError,
    LedgerError,
    LedgerUnavailableError,
)
from faregate.domain.order import OrderCounts
from faregate.domain.server import (
    DurableServer,
    Queue,
    Severity,
    Symptom,
)
from faregate.ops.backlog import PENDING_S_MAX, pending_seconds
from faregate.ops.fork_symptoms import fork_symptoms
from faregate.ops.reconcile import identity_findings
from faregate.ops.redis_rules import redis_symptoms
from faregate.ports import Audit, LiveBalances, TransactionStream

#: The largest difference between the clocks of the servers, in milliseconds.
CLOCKS_APART_MS_MAX = 1_000
#: The greatest age of the last reconciliation, in seconds. A worker reconciles all users once a
#: day.
COMPARED_AGE_MAX = timedelta(hours=25)

#: The command that resumes a suspended queue, since RQ does not know our settings.
RESUME = 'rq resume --url "${FAREGATE_QUEUE_URL:-$FAREGATE_REDIS_URL}"'

_GUIDE = "see docs/operate.md"
_UNAVAILABLE = (ArchiveUnavailableError, LedgerUnavailableError)
_FAILED = (ArchiveUnavailableError, LedgerError, ConfigurationError)
_error = partial(Symptom, severity=Severity.ERROR)
_warning = partial(Symptom, severity=Severity.WARNING)

#: Reads the facts about one part.
Probe = Callable[[], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """The result of an examination."""

    #: The facts about each part; None if it did not answer.
    facts: Mapping[str, Any]
    symptoms: Sequence[Symptom]

    @property
    def is_well(self) -> bool:
        """Whether there are no errors."""
        return all(symptom.severity is not Severity.ERROR for symptom in self.symptoms)


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """The pending records."""

    pending: int
    #: The age of the oldest one, in seconds; 0 without any.
    oldest_s: float


def examine(probes: Mapping[str, Probe]) -> Examination:
    """Read the facts about parts, and check them by the rules in `_CHECKS`."""
    facts: dict[str, Any] = {}
    symptoms: list[Symptom] = []
    named: set[object] = set()
    for part, probe in probes.items():
        try:
            facts[part] = probe()
            symptoms += _CHECKS[part](facts[part])
        except _FAILED as error:
            facts[part] = None
            # The same error, or a server that does not answer, is reported once, for the first
            # part. The Redis of the queue may be another server.
            server = (
                (type(error), part == "queue") if isinstance(error, _UNAVAILABLE) else str(error)
            )
            if not {str(error), server} & named:
                remedy = _ANSWERS.get(part, _GUIDE)
                symptoms.append(_error(part=part, detail=str(error), remedy=remedy))
            named |= {str(error), server}
    return Examination(facts=facts, symptoms=[*symptoms, *_clocks(facts)])


def backlog(stream: TransactionStream, audit: Audit) -> Backlog:
    """Return the number and the age of pending records."""
    ages = pending_seconds(stream, audit.cursors())
    oldest_s = round(max(ages.values(), default=0.0), 1)
    return Backlog(pending=stream.pending_count(), oldest_s=oldest_s)


def ledger(stream: TransactionStream, balances: LiveBalances, audit: Audit) -> dict[str, object]:
    """Return the identity of the ledger, and sentences for differences in Redis."""
    identity = audit.identity()
    findings = identity_findings(stream, balances, identity)
    names = ("ledger_id", "epoch", "shard_count", "starting_credits", "installed")
    return {
        **{name: getattr(identity, name) for name in names},
        "closed_shards": balances.closed_count(),
        "problems": [finding.detail for finding in findings],
    }


def _postgres(server: DurableServer) -> Iterator[Symptom]:
    error = partial(_error, part="postgres")
    if server.migrations_pending:
        yield error(
            detail=f"migrations are missing: {', '.join(server.migrations_pending)}",
            remedy="faregate migrate",
        )
    if server.is_unsettled:
        yield error(
            detail="policies or rights do not match the owner of the tables, as after a restore",
            remedy="faregate migrate",
        )


def _queue(queue: Queue) -> Iterator[Symptom]:
    if queue.suspended:
        yield _error(part="queue", detail="the queue is suspended", remedy=RESUME)
    if not queue.workers:
        yield _error(
            part="queue",
            detail="no worker is running: records stay pending",
            remedy="faregate worker",
        )


def _ledger(facts: Mapping[str, Any]) -> Iterator[Symptom]:
    for problem in facts["problems"]:
        yield _error(part="ledger", detail=problem, remedy="faregate rebuild: see docs/recovery.md")
    if facts["closed_shards"]:
        yield _error(
            part="ledger",
            detail=f"{facts['closed_shards']} shards are closed by an unfinished move",
            remedy="run the same `faregate rebuild --from` again, or faregate reopen",
        )


def _records(found: Backlog) -> Iterator[Symptom]:
    if found.oldest_s > PENDING_S_MAX:
        yield _error(
            part="records",
            detail=f"the oldest record has been pending for {found.oldest_s:.0f} s",
            remedy="faregate worker --check",
        )


def _orders(found: OrderCounts) -> Iterator[Symptom]:
    if found.oldest_s > PENDING_S_MAX:
        yield _error(
            part="orders",
            detail=f"an order of credits by SQL has waited for {found.oldest_s:.0f} s",
            remedy="faregate worker --check, and check its log",
        )
    if found.refused:
        yield _warning(
            part="orders",
            detail=f"refused orders of credits: {found.refused}",
            remedy="see docs/credits-by-sql.md",
        )


def _dead_letters(counts: Mapping[str, int]) -> Iterator[Symptom]:
    if counts:
        counts_text = ", ".join(f"{count} {kind}" for kind, count in counts.items())
        yield _warning(
            part="dead_letters",
            detail=f"records that cannot become rows: {counts_text}",
            remedy="faregate dead-letters list",
        )


def _reconciliation(last: Mapping[str, Any]) -> Iterator[Symptom]:
    if last and last["findings"]:
        counts_text = ", ".join(f"{count} {kind}" for kind, count in last["findings"].items())
        yield _error(
            part="reconciliation",
            detail=f"the last reconcile found: {counts_text}",
            remedy="faregate reconcile",
        )
    if last and (age := datetime.now(UTC) - last["ended_at"]) > COMPARED_AGE_MAX:
        yield _warning(
            part="reconciliation",
            detail=f"the last reconcile was {age.days * 24 + age.seconds // 3_600} hours ago",
            remedy="faregate reconcile, or FAREGATE_RECONCILE_INTERVAL_S of the worker",
        )


def _clocks(facts: Mapping[str, Any]) -> Iterator[Symptom]:
    redis, postgres = facts.get("redis"), facts.get("postgres")
    if redis is None or postgres is None:
        return
    apart_ms = abs(redis.worst.clock_ahead_ms - postgres.clock_ahead_ms)
    if apart_ms > CLOCKS_APART_MS_MAX:
        yield _warning(
            part="redis",
            detail=f"the clocks of Redis and Postgres are {apart_ms} ms apart",
            remedy="synchronise both with a time server: timedatectl set-ntp true",
        )


_CHECKS: Mapping[str, Callable[[Any], Iterator[Symptom]]] = {
    "redis": redis_symptoms,
    "postgres": _postgres,
    "ledger": _ledger,
    "records": _records,
    "orders": _orders,
    "dead_letters": _dead_letters,
    "forks": fork_symptoms,
    "reconciliation": _reconciliation,
    "queue": _queue,
}
#: The remedies for servers that do not answer.
_ANSWERS = {
    "redis": "start Redis, or correct FAREGATE_REDIS_URL",
    "postgres": "start Postgres, or correct FAREGATE_POSTGRES_URL",
    "queue": "start the Redis of the queue, or correct FAREGATE_QUEUE_URL",
}
