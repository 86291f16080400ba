"""Jobs of RQ, whose work horses are forked and end at once: each attempt is paid, or given back."""

import os
import subprocess
import sys
from uuid import uuid4

import pytest
from redis import Redis
from rq import Queue, Retry
from rq.job import JobStatus

from faregate import Settings, build_sync_gate
from waiting import WAIT_S_MAX

WORKER = "import rq, redis, sys; rq.Worker(['jobs'], connection=redis.Redis.from_url(sys.argv[1]))"


@pytest.mark.redis
@pytest.mark.postgres
def test_a_failed_attempt_is_given_back_and_its_retry_pays(
    ledger_redis: str, database_url: str
) -> None:
    """A job whose user cannot pay is not run."""
    user = uuid4()
    variables = {
        "FAREGATE_REDIS_URL": ledger_redis,
        "FAREGATE_POSTGRES_URL": database_url,
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    with Redis.from_url(ledger_redis) as connection:
        queue = Queue("jobs", connection=connection)
        flaky = queue.enqueue(
            "rq_jobs.work", str(user), fails=True, retry=Retry(max=1), result_ttl=60
        )
        refused = queue.enqueue("rq_jobs.work", str(user), fails=False, depends_on=flaky)
        subprocess.run(
            [sys.executable, "-c", f"{WORKER}.work(burst=True)", ledger_redis],
            env=os.environ | variables,
            timeout=WAIT_S_MAX,
            check=True,
        )
        assert flaky.get_status() is JobStatus.FINISHED
        assert flaky.return_value() == str(user)
        assert refused.get_status() is JobStatus.FAILED
        result = refused.latest_result()
    assert result is not None
    assert "JobRefusedError: out_of_credits" in str(result.exc_string)
    with build_sync_gate(Settings(redis_url=ledger_redis, postgres_url=database_url)) as gate:
        left = gate.balance(user)
    assert left is not None
    # The start, a charge, its refund, and the charge that stands.
    assert (left.credits, left.sequence) == (1, 4)
