"""The servers as an operator meets them: what they say of themselves, and what is wrong there."""

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
    #: Whether each write is in a file, and whether the last one got there.
    append_only: bool
    append_failed: bool
    #: How often that file is flushed to the disk; None where the user may not ask.
    append_fsync: str | None
    replicas: int
    #: Whether writes are refused as long as too few replicas are there.
    needs_replicas: bool
    #: Of the replica that is furthest behind: how much of the history it has not confirmed, and for
    #: how long it has confirmed nothing; 0 without replicas.
    replica_lag_bytes: int
    replica_lag_s: int
    #: How far its clock is ahead of that of this host, in milliseconds.
    clock_ahead_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """RQ's queue."""

    #: How many workers are registered and have given a sign of life lately.
    workers: int
    suspended: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DurableServer:
    """The Postgres of the ledger. It is a primary, in an encoding that holds all texts."""

    version: str
    #: The migrations that are not applied, or not as they are; None for a role that may not see.
    migrations_pending: Sequence[str] | None
    #: Whether policies or rights are those of an earlier owner of the tables, or missing.
    is_unsettled: bool
    #: How far its clock is ahead of that of this host, in milliseconds.
    clock_ahead_ms: int


class Severity(StrEnum):
    """How bad it is."""

    #: A promise of the ledger does not hold, or soon will not.
    ERROR = "error"
    #: It holds, and would not if something else went wrong.
    WARNING = "warning"


@dataclass(frozen=True, slots=True, kw_only=True)
class Symptom:
    """One thing that an operator should look at."""

    severity: Severity
    #: What it concerns: redis, postgres, ledger, records, dead_letters, queue.
    part: str
    #: What is wrong, and what comes of it.
    detail: str
    #: The command that puts it right, or where that is said.
    remedy: str
