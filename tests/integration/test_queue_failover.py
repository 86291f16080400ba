"""RQ's queue behind sentinels: the worker works on with the next primary."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from redis import Redis
from rq.registry import FailedJobRegistry

from faregate.cli.servers import Binaries
from faregate.config import QUEUE_NAME
from faregate_worker.check import heartbeat_name
from faregate_worker.runtime import open_queue
from sentinel_rig import Sentinels, running_sentinels
from tcp_redis import TcpRedis
from waiting import WAIT_S_MAX, wait_for
from worker_process import ROWS, USERS, System

pytestmark = [pytest.mark.redis, pytest.mark.postgres, pytest.mark.cluster, pytest.mark.long]


@pytest.fixture
def sentinels(binaries: Binaries) -> Iterator[Sentinels]:
    with running_sentinels(binaries.redis) as running:
        yield running


@pytest.fixture
def system(sentinels: Sentinels, ledger_redis: str, database_url: str, tmp_path: Path) -> System:
    """A ledger on one server, and its queue behind sentinels."""
    return System(
        redis_url=ledger_redis,
        database_url=database_url,
        log=tmp_path / "worker.log",
        other_queue_url=sentinels.url,
    )


def has_worker(server: TcpRedis) -> bool:
    """Whether a worker lives by a server: it has sent a heartbeat there, and is registered."""
    with Redis.from_url(server.url) as redis:
        return bool(redis.exists(heartbeat_name()) and redis.scard(f"rq:workers:{QUEUE_NAME}"))


def jobs_done(system: System, server: TcpRedis) -> int:
    """Jobs that the workers of a server have ended."""
    with Redis.from_url(server.url) as redis:
        names = redis.smembers(f"rq:workers:{QUEUE_NAME}")
        return sum(int(redis.hget(name, "successful_job_count") or 0) for name in names)


def test_a_worker_goes_on_with_the_next_primary_of_its_queue(
    system: System, sentinels: Sentinels
) -> None:
    """The same process and its ticker, with new jobs; and the health check says so."""
    first = sentinels.primary()
    with system.worker() as worker:
        system.charge(USERS[:8])
        wait_for(system.drained, "the first records are drained")
        wait_for(lambda: has_worker(first), "the worker lives by the first primary")
        failover = sentinels.kill_primary(first)
        wait_for(lambda: has_worker(failover.successor), "it lives by the next one")
        done_before = jobs_done(system, failover.successor)

        system.charge(USERS[8:])
        wait_for(system.drained, "the rest is drained")
        wait_for(lambda: jobs_done(system, failover.successor) > done_before, "by a job")
        wait_for(lambda: system.check() == 0, "the worker is healthy")
        assert worker.poll() is None
    assert system.rows() == ROWS
    assert "Traceback" not in system.log.read_text(encoding="utf-8")
    with closing(open_queue(system.queue_url, socket_timeout_s=WAIT_S_MAX).connection) as redis:
        assert not FailedJobRegistry(QUEUE_NAME, redis).get_job_ids()


def test_a_primary_that_becomes_a_replica_is_left(system: System, sentinels: Sentinels) -> None:
    """Without a death: the old primary answers, and refuses writes."""
    first = sentinels.primary()
    with system.worker() as worker:
        wait_for(lambda: has_worker(first), "the worker lives by the first primary")
        sentinels.sentinels[0].ask("SENTINEL", "FAILOVER", "faregate")
        wait_for(lambda: sentinels.primary() is not first, "another server is primary")
        assert first.is_alive
        system.charge()
        wait_for(system.drained, "all is drained")
        wait_for(lambda: has_worker(sentinels.primary()), "the worker lives by the next primary")
        assert worker.poll() is None
    assert system.rows() == ROWS
