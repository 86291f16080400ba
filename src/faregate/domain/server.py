"""Facts about the servers for operators, and symptoms of faults."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveServer:
    """The Redis of the ledger."""

    version: str
    #: master or slave.
    role: str
    #: In bytes; 0 for no limit.
    memory_used: int
    memory_max: int
    eviction_policy: str
    #: Whether writes go to an append-only file, and whether the last write succeeded.
    append_only: bool
    append_failed: bool
    #: How often that file is synced to the disk; None if the user may not read it.
    append_fsync: str | None
    replicas: int
    #: Whether writes are refused while too few replicas are connected, and whether that is so now.
    needs_replicas: bool
    refuses_writes: bool = False
    #: The lag of the slowest replica: the bytes that it has not confirmed, and the time since its
    #: last confirmation; 0 without replicas.
    replica_lag_bytes: int
    replica_lag_s: int
    #: How far its clock is ahead of that of this host, in milliseconds.
    clock_ahead_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """RQ's queue."""

    #: The number of live workers.
    workers: int
    suspended: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DurableServer:
    """The Postgres of the ledger: a primary with encoding UTF8."""

    version: str
    #: Migrations that are pending or edited; None if the role may not read them.
    migrations_pending: Sequence[str] | None
    #: Whether policies or rights are missing, or belong to an earlier owner of the tables.
    is_unsettled: bool
    #: How far its clock is ahead of that of this host, in milliseconds.
    clock_ahead_ms: int


class Severity(StrEnum):
    """The severity of a symptom."""

    #: A promise of the ledger is broken, or soon will be.
    ERROR = "error"
    #: A promise would be broken if something else failed.
    WARNING = "warning"


@dataclass(frozen=True, slots=True, kw_only=True)
class Symptom:
    """A fault that an operator should correct."""

    severity: Severity
    #: The part: redis, postgres, ledger, records, dead_letters, queue.
    part: str
    #: The fault and its consequence.
    detail: str
    #: The command that corrects it, or the page that explains it.
    remedy: str
