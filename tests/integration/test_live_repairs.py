"""Live balances that are wrong are measured and corrected, user by user, while charges go on."""

import signal
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from faregate import CreditPolicy, Gate
from faregate.adapters.postgres.accounts import PostgresAccounts
from faregate.adapters.redis import keys
from faregate.cli.servers import Binaries
from faregate.domain.alignment import (
    Aligned,
    Alignment,
    AlignmentOutcome,
)
from faregate.domain.period import Period, PeriodKind
from faregate.domain.policy import Allowance
from live_load import GRANTED
from live_rig import RECORD, SHARDS, STARTING, Rig, check_the_end, under_load
from own_redis import own_redis
from redis_ledger import make_ledger, value
from soak import scaled
from waiting import WAIT_S_MAX

pytestmark = [pytest.mark.redis, pytest.mark.postgres, pytest.mark.long]

DAILY = Allowance(amount=10, period=Period(kind=PeriodKind.DAY))
MEASUREMENTS = scaled(100, 10)


@pytest.fixture
def rig(ledger_redis: str, database_url: str) -> Iterator[Rig]:
    with under_load(ledger_redis, database_url) as opened:
        yield opened


def test_a_balance_that_is_right_lacks_nothing_at_any_moment(rig: Rig) -> None:
    """However many charges and rows are made while it is measured."""
    for _ in range(MEASUREMENTS):
        assert all(drift.is_zero for drift in rig.measure().values())
    check_the_end(rig)


def test_a_row_right_after_an_account_was_read_is_no_part_of_it(rig: Rig) -> None:
    """By its place in the stream, since its number may be that of a record that was lost."""
    user_id, name = rig.users[0], keys.account(rig.users[0], SHARDS)
    with rig.callers.paused():
        kept, before = value(rig.client, name), rig.callers.allowed[user_id]
    rig.callers.wait_for_more(5)
    with rig.callers.paused():
        rig.wait_until_drained()
        rig.client.set(name, kept)
        lost = rig.callers.allowed[user_id] - before
    rig.accounts.then = rig.charge_and_drain
    found = rig.measure()
    rig.accounts.then = None
    assert {one for one, drift in found.items() if not drift.is_zero} == {user_id}
    assert (found[user_id].amount, len(found[user_id].lost)) == (-lost, lost)
    assert rig.accounts.align(Alignment.of(found[user_id])).is_done
    check_the_end(rig)


def test_balances_that_were_altered_are_corrected_under_load(rig: Rig) -> None:
    """Up and down; by the balance, or by a row that tells who let it be."""
    up, down, kept, cut = rig.users[:4]
    altered = {up: 100, down: -100, kept: 7, cut: -9}
    for user_id, amount in altered.items():
        rig.alter(user_id, amount)
    rig.callers.wait_for_more()
    assert rig.amounts() == {user_id: -amount for user_id, amount in altered.items()}
    for user_id in (up, down):
        done = rig.align(user_id)
        assert done.credits - done.credits_before == -altered[user_id]
        assert done.sequence == done.sequence_before
    for user_id in (kept, cut):
        done = rig.align(user_id, RECORD)
        assert done.credits == done.credits_before
        assert done.sequence == done.sequence_before + 1
    assert rig.amounts() == {}
    check_the_end(rig, {kept: 7, cut: -9})
    query = (
        "select user_id, amount, metadata from public.credit_transactions where description = %s"
    )
    found = {row["user_id"]: row["amount"] for row in rig.tables.run(query, RECORD.description)}
    assert found == {kept: 7, cut: -9}


def test_an_account_that_was_deleted_is_corrected_after_gates_have_brought_it_in(rig: Rig) -> None:
    """From rows, without what was pending: so numbers were given twice."""
    lost, other = rig.users[:2]
    with rig.callers.paused():
        rig.wait_until_drained()
        kept = value(rig.client, keys.account(lost, SHARDS))
    rig.callers.wait_for_more(5)
    with rig.callers.paused():
        rig.wait_until_drained()
        # As a gate that reads the rows while five charges wait for the drain.
        rig.client.set(keys.account(lost, SHARDS), kept)
        rig.client.delete(keys.account(other, SHARDS))
        reached = rig.measure(lost, other)
    count = len(reached[lost].lost)
    assert count >= 5
    assert reached[lost].amount == -count
    assert (reached[other].credits, reached[other].amount) == (
        None,
        STARTING + GRANTED - rig.callers.allowed[other],
    )
    rig.callers.wait_for_more()
    assert rig.amounts() == {lost: -count}
    rig.align(lost)
    assert rig.amounts() == {}
    check_the_end(rig)


def test_an_account_that_is_gone_is_made_anew(rig: Rig) -> None:
    """With what rows and pending records say, however many of these there are."""
    user_id = rig.users[0]
    with rig.callers.paused():
        before = rig.live()[user_id]
        for text in (None, b"?"):
            name = keys.account(user_id, SHARDS)
            rig.client.set(name, text) if text else rig.client.delete(name)
            drift = rig.measure(user_id)[user_id]
            assert (drift.credits, drift.amount) == (None, before)
            assert {finding.user_id for finding in rig.findings()} == {user_id}
            assert rig.align(user_id).credits == before
            assert rig.measure(user_id)[user_id].is_zero
    check_the_end(rig)


def test_a_user_who_was_not_seen_in_this_epoch_has_no_drift(rig: Rig) -> None:
    """It has no account, and its next request brings it in."""
    new = rig.tables.user().user_id
    drift = rig.measure(new)[new]
    assert (drift.credits, drift.is_zero) == (None, True)
    rig.client.set(keys.account(new, SHARDS), b"?")
    assert [finding.user_id for finding in rig.findings()] == [new]
    assert rig.align(new).credits == STARTING


async def test_an_allowance_is_measured_and_corrected_with_its_balance(rig: Rig) -> None:
    """So it follows from the rows again, and none of it is spent twice."""
    user_id, rest = rig.tables.user().user_id, CreditPolicy(allowance=DAILY)
    ledger = make_ledger(rig.callers.redis_url, shard_count=SHARDS)
    gate = Gate(ledger, PostgresAccounts(rig.callers.database_url), rest)
    name = keys.account(user_id, SHARDS)
    assert (await gate.charge(user_id, cost=2)).allowance_left == 8
    kept = value(rig.client, name)
    assert (await gate.charge(user_id, cost=3)).allowance_left == 5
    rig.client.set(name, kept)
    drift = rig.measure(user_id)[user_id]
    assert (drift.amount, drift.allowance_amount, len(drift.lost)) == (-3, -3, 1)
    assert rig.accounts.align(Alignment.of(drift)).is_done
    assert (await gate.charge(user_id, cost=1)).allowance_left == 4
    await gate.aclose()
    assert rig.measure(user_id)[user_id].is_zero
    rig.charge_and_drain()
    assert [finding for finding in rig.audit.verify() if finding.user_id == user_id] == []


def test_a_correction_that_comes_late_or_twice_changes_nothing(
    binaries: Binaries, database_url: str
) -> None:
    """A call that waits in a Redis that hangs is refused when it is executed at last."""
    with own_redis(binaries.redis) as server, under_load(server.url, database_url) as rig:
        user_id = rig.users[0]
        rig.alter(user_id, 50)
        drift = rig.measure(user_id)[user_id]
        late, answers = Alignment.of(drift, for_ms=1), list[Aligned]()
        call = threading.Thread(target=lambda: answers.append(rig.accounts.align(late)))
        with rig.callers.paused():
            server.send(signal.SIGSTOP)
            call.start()
            threading.Event().wait(0.1)
            server.send(signal.SIGCONT)
            call.join(WAIT_S_MAX)
            before = rig.live()[user_id]
        assert [answer.outcome for answer in answers] == [AlignmentOutcome.LATE]
        assert answers[0].credits == before
        alignment = Alignment.of(drift)
        first = rig.accounts.align(alignment)
        rig.callers.wait_for_more()
        assert rig.accounts.align(alignment) == replace(first, outcome=AlignmentOutcome.REPEATED)
        other = rig.accounts.align(Alignment.of(drift))
        assert other.outcome is AlignmentOutcome.CHANGED
        check_the_end(rig)
