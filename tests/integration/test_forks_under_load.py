"""Redis continues from older copies while 64 callers charge: balances are right by themselves."""

from collections.abc import Iterator
from typing import Any

import pytest

from forked import copy_of, fail_over, forks_of, let_a_minute_pass, lost_records, watching
from live_rig import SHARDS, Rig, under_load
from soak import scaled
from waiting import wait_for

pytestmark = [pytest.mark.redis, pytest.mark.postgres, pytest.mark.long]

FORKS = scaled(20, 2)


@pytest.fixture
def rig(ledger_redis: str, database_url: str) -> Iterator[Rig]:
    with under_load(ledger_redis, database_url) as opened:
        yield opened


def test_balances_are_right_after_forks_under_load(rig: Rig) -> None:
    """With the drain behind or not; live = durable + pending for all, and verify finds nothing."""
    before = 0
    with watching(rig.callers.redis_url, rig.callers.database_url, SHARDS):
        for _ in range(FORKS):
            with rig.callers.paused():
                copy = copy_of(rig.client)
            rig.callers.wait_for_more(5)
            fail_over(rig.client, copy)
            rig.callers.wait_for_more(5)
            with rig.callers.paused():
                wait_for(lambda: is_settled(rig), "all is stored and aligned")
                check(rig)
            assert len(forks_of(rig.tables)) > before
            before = len(forks_of(rig.tables))
        let_a_minute_pass(rig.tables)
        wait_for(
            lambda: all(one["checked_at"] for one in lost_records(rig.tables)), "all are checked"
        )
        rig.callers.wait_for_more()
    with rig.callers.paused():
        rig.wait_until_drained()
        check(rig)


def is_settled(rig: Rig) -> bool:
    cursors = rig.audit.cursors()
    if rig.stream.lacking(cursors) or rig.stream.pending_count():
        return False
    return all(one["aligned_at"] for one in lost_records(rig.tables))


def check(rig: Rig) -> None:
    """No number disagrees, and nobody was charged for more than was answered."""
    assert rig.findings() == []
    assert rig.amounts() == {}
    accepted = rig.audit.acknowledgements()
    found: list[Any] = [one for one in rig.audit.verify() if one.id not in accepted]
    assert found == []
    for user_id in rig.users:
        assert 0 < rig.deducts(user_id) <= rig.callers.allowed[user_id]
