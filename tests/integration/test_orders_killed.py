"""Processes that make orders, killed by SIGKILL: each order is made once all the same."""

import os
import signal
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from billing import ADMIN, Billing, add, let_it_be_due, waiting
from durable import Database
from orders_process import POINTS
from waiting import WAIT_S_MAX, wait_for
from worker_process import System, children

pytestmark = [pytest.mark.redis, pytest.mark.postgres, pytest.mark.long]


@pytest.fixture
def system(ledger_redis: str, database_url: str, tmp_path: Path) -> System:
    return System(redis_url=ledger_redis, database_url=database_url, log=tmp_path / "worker.log")


@pytest.fixture
def billing(system: System, tables: Database) -> Billing:
    made = Billing(system.settings, tables)
    made.ask(lambda gate: gate.balance(uuid4()))
    return made


def kill_at(point: str, system: System, folder: Path) -> None:
    """Let a process make orders until it is at a point, and kill it there."""
    (folder / f"arm {point}").touch()
    process = system.start("orders_process", str(folder))
    try:
        wait_for((folder / f"halted {process.pid}").exists, f"it is there: {point}")
    finally:
        process.kill()
    assert process.wait(WAIT_S_MAX) == -signal.SIGKILL


@pytest.mark.parametrize("left", ["a record", "a row"])
def test_an_order_is_made_once_wherever_its_maker_is_killed(
    system: System, billing: Billing, tables: Database, tmp_path: Path, left: str
) -> None:
    """Between any two steps; its record is a row before the next one looks, or is not."""
    expected = {}
    for point in POINTS:
        user_id = tables.user().user_id
        add(tables, user_id, -50, "below", type="admin_adjustment", metadata=ADMIN)
        expected[user_id] = [add(tables, user_id, 5, "payment"), add(tables, user_id, 6)]
        kill_at(point, system, tmp_path)
        if left == "a row":
            billing.drain()
        let_it_be_due(tables)
    billing.step()
    billing.drain()
    let_it_be_due(tables)
    billing.step()
    assert [order["refusal"] for order in waiting(tables)] == ["out_of_credits"] * len(POINTS)
    for user_id, ids in expected.items():
        assert sorted(row["id"] for row in tables.rows(user_id)) == sorted(ids)
        assert billing.credits(user_id) == 14
    assert billing.findings() == []


def test_a_worker_that_is_killed_makes_each_order_once(
    system: System, billing: Billing, tables: Database
) -> None:
    """The worker with all of its processes, or its ticker alone, while orders come."""
    users = [user.user_id for user in tables.users(10)]
    ids: list[UUID] = []

    def order(count: int) -> None:
        for number in range(count):
            ids.append(add(tables, users[number % 10], 1, f"payment {len(ids)}"))

    def made() -> list[UUID]:
        return sorted(row["id"] for user in users for row in tables.rows(user))

    def killed_ticker(worker: int) -> bool:
        """Whether there was one."""
        found = children(worker, ticker=True)
        for pid in found:
            os.kill(pid, signal.SIGKILL)
        return bool(found)

    for _ in range(2):
        with system.worker() as worker:
            for _ in range(2):
                order(50)
                wait_for(lambda: ids[-1] in made(), "the last one is made")
                order(50)
                wait_for(lambda: killed_ticker(worker.pid), "there is a ticker")
            order(50)
    with system.worker():
        wait_for(lambda: not waiting(tables), "all orders are made")
    assert made() == sorted(ids)
    assert {billing.credits(user) for user in users} == {3 + len(ids) // 10}
    assert billing.findings() == []
