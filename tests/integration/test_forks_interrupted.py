"""Workers die, race and meet a second fork while they align: each user is aligned once."""

from contextlib import suppress
from typing import Any
from uuid import UUID

import pytest
from redis import Redis

from charging import CREDITS, Charger
from durable import Database
from faregate.adapters.redis.lost import LostReport
from faregate.domain.errors import FaregateError, LedgerUnavailableError
from faregate.domain.period import Period, PeriodKind
from faregate.domain.policy import Allowance, CreditPolicy
from forked import (
    Worker,
    check_exact,
    copy_of,
    fail_over,
    forks_of,
    let_a_minute_pass,
    lose_stored_charges,
    lost_records,
    worker,
)
from redis_ledger import KEYS

pytestmark = [pytest.mark.redis, pytest.mark.postgres, pytest.mark.long]

DAILY = CreditPolicy(allowance=Allowance(amount=10, period=Period(kind=PeriodKind.DAY)))


class Dying:
    """A part of a worker that dies right before or right after it was called."""

    def __init__(self, part: Any, name: str, *, is_after: bool) -> None:
        self._part, self._name, self._is_after = part, name, is_after
        self.has_died = False

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._part, name)
        if name != self._name or self.has_died:
            return method

        def die(*arguments: Any) -> None:
            self.has_died = True
            if self._is_after:
                method(*arguments)
            raise LedgerUnavailableError("killed")

        return die


@pytest.mark.parametrize("is_after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    ("part", "name"),
    [
        ("archive", "rewind"),
        ("forks", "begin"),
        ("accounts", "align"),
        ("forks", "end"),
        ("forks", "note_aligned"),
        ("reports", "forget"),
    ],
)
async def test_a_worker_may_die_between_any_two_steps(
    charger: Charger,
    sink: Worker,
    client: Any,
    tables: Database,
    part: str,
    name: str,
    *,
    is_after: bool,
) -> None:
    """The next one goes on, and aligns each user once."""
    await lose_stored_charges(charger, sink, client)
    report = LostReport(b"gate one", "5-0", (UUID(int=7),))
    client.hset(KEYS.lost, report.field, report.pack())
    well = getattr(sink, part)
    dying = Dying(well, name, is_after=is_after)
    setattr(sink, part, dying)
    with suppress(FaregateError):
        sink.watch()
    assert dying.has_died
    setattr(sink, part, well)
    await charger.charge()
    sink.drain()
    tables.run("update faregate.repairs set begun_at = begun_at - interval '1 minute'")
    sink.watch()
    assert len(forks_of(tables)) == 1
    check_exact(sink, charger.users, tables, CREDITS - 2)
    done = tables.run("select user_id from faregate.repairs where balance_after <> balance_before")
    assert sorted(row["user_id"] for row in done) == sorted(charger.users)


async def test_two_workers_at_once_align_each_user_once(
    charger: Charger,
    sink: Worker,
    client: Redis,
    tables: Database,
    ledger_redis: str,
    database_url: str,
) -> None:
    """Both have measured before one of them aligns."""
    await lose_stored_charges(charger, sink, client)
    with worker(ledger_redis, database_url) as other:
        aligned = sink.accounts.align

        def align(alignment: Any) -> Any:
            sink.accounts.align = aligned  # type: ignore[method-assign]
            other.watch()
            return aligned(alignment)

        sink.accounts.align = align  # type: ignore[method-assign]
        sink.watch()
    sink.watch()
    check_exact(sink, charger.users, tables, CREDITS - 1)


async def test_a_second_fork_before_the_first_is_aligned(
    charger: Charger, sink: Worker, client: Redis, tables: Database
) -> None:
    """Records of both are kept."""
    copy = await lose_stored_charges(charger, sink, client)
    await charger.charge()
    sink.drain()
    assert len(forks_of(tables)) == 1
    fail_over(client, copy)
    sink.watch()
    sink.drain()
    assert len(forks_of(tables)) == 2
    check_exact(sink, charger.users, tables, CREDITS - 2)
    await charger.charge()
    sink.drain()
    check_exact(sink, charger.users, tables, CREDITS - 3)


async def test_an_alignment_that_a_second_fork_has_lost_is_made_again(
    charger: Charger, sink: Worker, client: Redis, tables: Database
) -> None:
    """It has no record, so it is looked for a minute later."""
    await lose_stored_charges(charger, sink, client)
    before = copy_of(client)
    sink.watch()
    check_exact(sink, charger.users, tables, CREDITS - 1)
    fail_over(client, before)
    sink.watch()
    assert {sink.live(user) for user in charger.users} == {CREDITS}
    let_a_minute_pass(tables)
    sink.watch()
    check_exact(sink, charger.users, tables, CREDITS - 1)
    let_a_minute_pass(tables)
    sink.watch()
    assert all(one["checked_at"] for one in lost_records(tables))
