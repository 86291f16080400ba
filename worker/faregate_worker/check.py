"""Checks whether records become rows: a worker lives and may work, and no record is old."""

import socket
from collections.abc import Mapping
from contextlib import closing

from redis.exceptions import RedisError
from rq import Queue
from rq.suspension import is_suspended

from faregate.bootstrap import open_archive, open_stream
from faregate.config import Settings
from faregate.domain.errors import (
    ArchiveUnavailableError,
    LedgerError,
    NodeUnavailableError,
    StandbyError,
)
from faregate.ops.backlog import PENDING_S_MAX, pending_seconds
from faregate.ops.doctor import RESUME
from faregate.ports import TransactionArchive, TransactionStream
from faregate_worker.drain import require_same_ledger
from faregate_worker.runtime import open_queue, require_no_cluster

#: The interval of heartbeats, and how long one counts, in seconds.
BEAT_INTERVAL_S = 5.0
BEAT_TTL_S = 30
TIMEOUT_S = 2.0
_NO_WORKER = (
    "no worker of this host has sent a heartbeat: end any worker that hangs, and"
    " run `faregate worker`"
)


def heartbeat_name() -> str:
    """Return the Redis key of the heartbeat of this host's worker."""
    return f"faregate:worker:{socket.gethostname()}"


def beat(queue: Queue) -> None:
    """Send a heartbeat. A flushed queue has it again soon.

    Raises:
        RedisError: The queue does not answer, or is full.
    """
    queue.connection.set(heartbeat_name(), "1", ex=BEAT_TTL_S)


def end_beat(queue: Queue) -> None:
    """Delete the heartbeat of a worker that stops."""
    queue.connection.delete(heartbeat_name())


def problems(settings: Settings) -> list[str]:
    """Return a sentence for each reason why records do not become rows.

    Raises:
        ConfigurationError: Redis and Postgres belong to different ledgers, Postgres is not
            migrated, the role lacks a right, or the queue is a node of a cluster.
        StandbyError: Postgres is a standby.
    """
    return [*_queue_problems(settings), *_ledger_problems(settings)]


def _queue_problems(settings: Settings) -> list[str]:
    queue = open_queue(settings.rq_url, socket_timeout_s=TIMEOUT_S)
    try:
        with closing(queue.connection):
            require_no_cluster(queue)
            is_alive = queue.connection.exists(heartbeat_name())
            is_paused = is_suspended(queue.connection)
    except RedisError as error:
        return [f"the queue does not answer: {type(error).__name__}: {error}"]
    found = [] if is_alive else [_NO_WORKER]
    return [*found, *([f"the queue is suspended; resume it with `{RESUME}`"] if is_paused else [])]


def _ledger_problems(settings: Settings) -> list[str]:
    with open_stream(settings) as stream, open_archive(settings) as archive:
        try:
            # Before the first API has started, Redis holds no identity, and nothing is pending.
            if stream.identity_fields():
                require_same_ledger(stream, archive)
            archive.check_writes()
            return [
                *_silent(stream),
                *_late(pending_seconds(stream, archive.cursors()), archive),
            ]
        except StandbyError:
            raise
        except (ArchiveUnavailableError, LedgerError) as error:
            return [str(error)]


def _silent(stream: TransactionStream) -> list[str]:
    """Return a sentence about a node that does not answer, while others do."""
    try:
        stream.pending_count()
    except NodeUnavailableError as error:
        return [str(error)]
    return []


def _late(ages: Mapping[int, float], archive: TransactionArchive) -> list[str]:
    """Return a sentence about shards with too old records and a backend that may block them."""
    found = [
        f"the oldest record of shard {shard} has been pending for {age_s:.0f} s"
        for shard, age_s in ages.items()
        if age_s > PENDING_S_MAX
    ]
    holder = archive.lock_holder() if found else ""
    return [*found, holder] if holder else found
