"""Jobs of RQ and Celery in workers of their own: each is paid once, or given back."""

import os
import select
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import UUID

import pytest

from example_rig import Customer, ExampleLedger
from faregate import Settings, SyncGate, build_sync_gate
from job_queues import WORKERS, Worker, worker
from waiting import wait_for

pytestmark = [pytest.mark.redis, pytest.mark.postgres, pytest.mark.long]
CHARGE, REFUND = ("deduct", -2), ("refund", 2)


@pytest.fixture
def ledger(ledger_redis: str, database_url: str) -> ExampleLedger:
    return ExampleLedger(Settings(redis_url=ledger_redis, postgres_url=database_url))


@pytest.fixture
def gate(ledger: ExampleLedger) -> Iterator[SyncGate]:
    with build_sync_gate(ledger.settings) as gate:
        yield gate


@pytest.fixture
def customer(ledger: ExampleLedger) -> Customer:
    return ledger.sign_up()


@pytest.fixture(params=WORKERS)
def running(
    request: pytest.FixtureRequest, ledger: ExampleLedger, tmp_path: Path
) -> Iterator[Worker]:
    with worker(request.param, ledger.settings, tmp_path / "log") as running:
        yield running
    assert ledger.findings() == []


def changes(gate: SyncGate, user_id: UUID) -> int:
    """How many records the user has."""
    balance = gate.balance(user_id)
    return balance.sequence if balance else 0


def test_an_attempt_that_fails_is_given_back_and_the_next_one_pays(
    running: Worker, ledger: ExampleLedger, gate: SyncGate, customer: Customer, tmp_path: Path
) -> None:
    """A job that succeeds is charged once. A job whose user cannot pay is not run."""
    text, user = tmp_path / "text", customer.user_id
    job = running.send(user, text, 5)
    wait_for(lambda: changes(gate, user) >= 3, "the first attempt is refunded: it finds no file")
    text.write_text("three words now", encoding="utf-8")
    wait_for(lambda: job.result() == 3, "an attempt succeeds")
    refused = running.send(user, text, 1)
    wait_for(refused.error, "the second job is refused")
    assert "JobRefusedError" in str(refused.error())
    assert "out_of_credits" in str(refused.error())
    *failed, last = ledger.rows(customer)
    assert last == CHARGE
    assert failed == [CHARGE, REFUND] * (len(failed) // 2)


@contextmanager
def writing(fifo: Path) -> Iterator[int]:
    """Write to a FIFO, once a process reads from it."""
    found: list[int] = []

    def is_read() -> bool:
        with suppress(OSError):
            found.append(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
        return bool(found)

    wait_for(is_read, "a job reads from the FIFO")
    try:
        yield found[0]
    finally:
        os.close(found[0])


def is_unread(writer: int) -> bool:
    """Whether no process has the other end of a FIFO any more."""
    poll = select.poll()
    poll.register(writer, select.POLLERR)
    return bool(poll.poll(0))


def readers(fifo: Path, parent: int) -> list[int]:
    """The children of a process that read from a FIFO."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text("utf-8").split()
    return [int(pid) for pid in children if fifo in opened_by(pid)]


def opened_by(pid: str) -> list[Path]:
    """The files that a process has opened."""
    with suppress(OSError):
        return [one.readlink() for one in Path(f"/proc/{pid}/fd").iterdir()]
    return []


def test_a_job_whose_worker_is_killed_is_delivered_again_and_pays_once(
    running: Worker, ledger: ExampleLedger, gate: SyncGate, customer: Customer, tmp_path: Path
) -> None:
    """The process that does the work dies by SIGKILL in the middle of it."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    job = running.send(customer.user_id, fifo, 5)
    with writing(fifo) as writer:
        wait_for(lambda: readers(fifo, running.pid), "it has opened the FIFO")
        (victim,) = readers(fifo, running.pid)
        assert changes(gate, customer.user_id) == 2
        os.kill(victim, signal.SIGKILL)
        wait_for(lambda: is_unread(writer), "the process is dead")
    with writing(fifo) as writer:
        os.write(writer, b"four words after all")
    wait_for(lambda: job.result() == 4, "another process does the job")
    assert ledger.rows(customer) == [CHARGE]
