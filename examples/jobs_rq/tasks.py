"""A job of RQ that charges its user before it runs: `rq worker --with-scheduler`.

`queue.enqueue(words, user_id, path, retry=Retry(max=RETRIES, interval=1))` sends it.
"""

from math import ceil
from pathlib import Path
from uuid import UUID

from rq import Retry, get_current_job

from faregate import build_sync_gate
from faregate.jobs import JobAttempt, JobRefusedError, charged_job

RETRIES = 5
gate = build_sync_gate()


def attempt() -> JobAttempt:
    """Say which job runs."""
    job = get_current_job()
    if job is None:
        raise RuntimeError("this function runs in a worker of RQ")
    return JobAttempt(job_id=job.id)


def payer(user_id: str, path: str) -> UUID:
    """Say who pays, by the arguments of the job."""
    return UUID(user_id)


@charged_job(gate, user=payer, attempt=attempt, cost=2)
def count_words(user_id: str, path: str) -> int:
    """Do the work; an error gives the charge back."""
    return len(Path(path).read_text(encoding="utf-8").split())


def words(user_id: str, path: str) -> int | Retry:
    """Run `count_words`, or come back when its user can pay."""
    try:
        return count_words(user_id, path)
    except JobRefusedError as refused:
        if refused.retry_after_ms is None:  # Waiting does not help.
            raise
        return Retry(max=RETRIES, interval=ceil(refused.retry_after_ms / 1000))
