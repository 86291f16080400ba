"""Jobs that RQ runs in work horses of its own, each charged to the user that it names.

A job that is told to fail does so at its first attempt.
"""

from uuid import UUID

from rq import get_current_job

from faregate import Settings, build_sync_gate
from faregate.jobs import JobAttempt, charged_job

RETRIES = 1
gate = build_sync_gate(Settings(provision_users=True))


def attempt() -> JobAttempt:
    """Which attempt runs, as docs/sync.md shows it."""
    job = get_current_job()
    assert job is not None
    return JobAttempt(job_id=job.id, number=RETRIES - (job.retries_left or 0))


@charged_job(gate, user=lambda user_id, **_: UUID(user_id), attempt=attempt, cost=2)
def work(user_id: str, *, fails: bool) -> str:
    """Fail where that is asked for."""
    if fails and attempt().number == 0:
        raise RuntimeError("the first attempt")
    return user_id
