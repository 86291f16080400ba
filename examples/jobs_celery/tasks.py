"""A task of Celery that charges its user before it runs: `celery --app tasks worker`.

`words.delay(user_id, path)` sends it.
"""

# Celery has no types: what it gives is `Any` here, and pyright checks this file by its basic rules.
# pyright: basic

import os
from math import ceil
from pathlib import Path
from typing import Any, cast
from uuid import UUID

from celery import Celery, current_task

from faregate import build_sync_gate
from faregate.jobs import JobAttempt, JobRefusedError, charged_job

app = Celery("tasks", broker=os.environ["BROKER_URL"], backend=os.environ["BROKER_URL"])
# A task whose worker was killed is delivered again. It is not charged again.
app.conf.update(task_acks_late=True, task_reject_on_worker_lost=True)
gate = build_sync_gate()


def attempt() -> JobAttempt:
    """Say which attempt of which task runs."""
    request = cast("Any", current_task).request
    return JobAttempt(job_id=request.id, number=request.retries)


def payer(user_id: str, path: str) -> UUID:
    """Say who pays, by the arguments of the job."""
    return UUID(user_id)


@charged_job(gate, user=payer, attempt=attempt, cost=2)
def count_words(user_id: str, path: str) -> int:
    """Do the work; an error gives the charge back."""
    return len(Path(path).read_text(encoding="utf-8").split())


def run(task: Any, user_id: str, path: str) -> int:
    """Run `count_words`, or come back when its user can pay."""
    try:
        return count_words(user_id, path)
    except JobRefusedError as refused:
        if refused.retry_after_ms is None:  # Waiting does not help.
            raise
        raise task.retry(exc=refused, countdown=ceil(refused.retry_after_ms / 1000)) from refused


words: Any = app.task(
    name="words",
    bind=True,
    max_retries=5,
    default_retry_delay=1,
    autoretry_for=(Exception,),
    dont_autoretry_for=(JobRefusedError,),
)(run)
