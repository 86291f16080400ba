"""RQ and Celery with the tasks of their examples: a worker of each, and jobs sent to it."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from celery import Celery
from celery.result import AsyncResult
from redis import Redis
from rq import Queue, Retry
from rq.job import Job

from example_rig import EXAMPLES, program
from faregate import Settings

#: After how long a job whose worker died is taken over. Celery sees its death after up to five
#: seconds, and is to be refused once before that.
LEASE_MS = 6_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A job that was sent: what it returned, and the error that it ended with."""

    result: Callable[[], object]
    error: Callable[[], str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """A worker of a queue, and how jobs are sent to it."""

    pid: int
    #: To count the words of a file for a user. RQ tries a job that fails so many times again, and
    #: Celery as its task says.
    send: Callable[[UUID, Path, int], Sent]


@contextmanager
def _rq(socket: str, settings: Settings, log: Path) -> Iterator[Worker]:
    """Run a worker of RQ, whose work horse is forked for each job."""
    url = f"unix://{socket}?db=1"
    words = ["-m", "rq.cli", "worker", "--with-scheduler", "--url", url]

    def send(user_id: UUID, path: Path, retries: int) -> Sent:
        retry = Retry(max=retries, interval=1)
        job: Job = queue.enqueue("tasks.words", str(user_id), str(path), retry=retry)

        def error() -> str | None:
            result = job.latest_result() if job.get_status().value == "failed" else None
            return None if result is None else str(result.exc_string)

        return Sent(result=lambda: job.return_value(refresh=True), error=error)

    folder = EXAMPLES / "jobs_rq"
    with Redis.from_url(url) as connection, _running(words, folder, settings, log) as pid:
        queue = Queue(connection=connection)
        yield Worker(pid=pid, send=send)


@contextmanager
def _celery(socket: str, settings: Settings, log: Path) -> Iterator[Worker]:
    """Run a worker of Celery with one process in its pool."""
    url = f"redis+socket://{socket}?virtual_host=1"
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    words = ["-m", "celery", "--app", "tasks", "worker", "--concurrency", "1", *quiet]
    client = Celery(broker=url, backend=url)

    def send(user_id: UUID, path: Path, _: int) -> Sent:
        sent: AsyncResult[object] = client.send_task("words", [str(user_id), str(path)])
        return Sent(
            result=lambda: sent.result if sent.state == "SUCCESS" else None,
            error=lambda: repr(sent.result) if sent.state == "FAILURE" else None,
        )

    folder = EXAMPLES / "jobs_celery"
    with client, _running(words, folder, settings, log, BROKER_URL=url) as pid:
        yield Worker(pid=pid, send=send)


@contextmanager
def _running(
    words: list[str], folder: Path, settings: Settings, log: Path, **variables: str
) -> Iterator[int]:
    variables["FAREGATE_IDEMPOTENCY_LEASE_MS"] = str(LEASE_MS)
    with program(words, folder, settings, log, **variables) as process:
        yield process.pid


WORKERS: Mapping[str, Any] = {"rq": _rq, "celery": _celery}


@contextmanager
def worker(queue: str, settings: Settings, log: Path) -> Iterator[Worker]:
    """Run a worker of a queue, with the ledger's Redis as its broker."""
    socket = settings.redis_url.removeprefix("unix://").partition("?")[0]
    with WORKERS[queue](socket, settings, log) as running:
        yield running
