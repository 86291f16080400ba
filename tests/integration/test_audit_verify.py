"""Verification names what rows, dead letters and schema prove to be wrong, and nothing else."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from uuid import UUID

import pytest

from durable import Database, Sink, as_role, transactions
from faregate.adapters.postgres.audit import PostgresAudit
from faregate.domain.errors import ArchiveUnavailableError
from faregate.domain.finding import DriftKind, Finding

pytestmark = pytest.mark.postgres

SHARD = 7


@pytest.fixture
def audit(database_url: str) -> Iterator[PostgresAudit]:
    """The audit under test."""
    opened = PostgresAudit(as_role(database_url, "faregate_worker"))
    yield opened
    opened.close()


def kinds(findings: Sequence[Finding]) -> list[tuple[DriftKind, UUID | None]]:
    """What was found, of whom."""
    return [(finding.kind, finding.user_id) for finding in findings]


def test_a_missing_number_is_a_gap(tables: Database, store: Sink, audit: PostgresAudit) -> None:
    """A record that is nowhere was lost; where it is a dead letter it was not."""
    user, other = tables.users(2)
    lost = user.deducts(3)
    store.store(SHARD, [lost[0], *user.deducts(1), *other.deducts(4)])
    (finding,) = audit.verify()
    assert (finding.kind, finding.user_id) == (DriftKind.GAP, user.user_id)
    assert "transactions 3 to 4" in finding.detail

    refused = [replace(transactions([e])[0], description="\0") for e in lost[1:]]
    store.store(SHARD, [replace(e, transaction=t) for e, t in zip(lost[1:], refused, strict=True)])
    assert audit.verify() == []


def test_a_number_that_occurs_twice_is_a_fork(
    tables: Database, store: Sink, audit: PostgresAudit
) -> None:
    """Two histories of one user cannot both be true; a dead letter is part of one, too."""
    row, letter = tables.users(2)
    store.store(SHARD, [*row.deducts(1), *letter.deducts(1)])
    row.sequence = letter.sequence = 1
    store.store(SHARD, [row.record(-1), letter.record(-1, description="\0")])
    forks = [finding for finding in audit.verify() if finding.kind is DriftKind.FORK]
    assert kinds(forks) == [(DriftKind.FORK, row.user_id), (DriftKind.FORK, letter.user_id)]
    assert "numbered 2" in forks[0].detail


def test_a_balance_that_does_not_follow_breaks_the_chain(
    tables: Database, store: Sink, audit: PostgresAudit
) -> None:
    """The break is named once, with both balances, and the chain is taken up behind it."""
    user, first = tables.users(2)
    store.store(SHARD, [user.record(-1), user.record(-1, description="\0")])
    user.credits += 10
    store.store(SHARD, user.deducts(2))
    findings = audit.verify()
    assert kinds(findings) == [(DriftKind.CHAIN, user.user_id)]
    assert (findings[0].expected, findings[0].found) == (0, 10)
    assert "Transaction 4" in findings[0].detail

    first.credits += 1
    store.store(SHARD, first.deducts(1))
    assert (DriftKind.CHAIN, first.user_id) in kinds(audit.verify())


def test_an_allowance_that_does_not_follow_breaks_the_chain(
    tables: Database, store: Sink, audit: PostgresAudit
) -> None:
    """Spent, restored, lost by a letter: all in order; a part that is missing is named once."""
    fair, wrong, first = tables.users(3)
    for user in (fair, wrong):
        top_up = user.record(10, "add", allowance_amount=10, allowance_after=10)
        spend = user.record(-4, allowance_amount=-4, allowance_after=6)
        letter = user.record(-1, description="\0", allowance_amount=-1, allowance_after=5)
        store.store(SHARD, [top_up, spend, letter])
    store.store(SHARD, [fair.record(-2, allowance_amount=-2, allowance_after=3)])
    assert audit.verify() == []

    store.store(
        SHARD,
        [
            wrong.record(-2, allowance_amount=-2, allowance_after=4),
            wrong.record(-1, allowance_amount=-1, allowance_after=3),
            first.record(-1, allowance_amount=-1, allowance_after=7),
        ],
    )
    findings = audit.verify()
    assert kinds(findings) == [
        (DriftKind.CHAIN, wrong.user_id),
        (DriftKind.CHAIN, first.user_id),
    ]
    assert [(f.expected, f.found) for f in findings] == [(3, 4), (-1, 7)]
    assert "Transaction 5" in findings[0].detail
    assert "allowance 4" in findings[0].detail


def test_an_allowance_continues_behind_a_gap(
    tables: Database, store: Sink, audit: PostgresAudit
) -> None:
    """The gap is the finding: what was lost there may have concerned the allowance."""
    user = tables.user()
    lost = user.record(10, "add", allowance_amount=10, allowance_after=10)
    store.store(SHARD, [user.record(-1, allowance_amount=-1, allowance_after=9)])
    assert kinds(audit.verify()) == [(DriftKind.GAP, user.user_id)]
    store.store(SHARD, [lost])
    assert audit.verify() == []


def test_refunds_beyond_their_deduct_are_found(
    tables: Database, store: Sink, audit: PostgresAudit
) -> None:
    """Up to the whole deduct is in order; beyond it, or of no deduct of the user, is not."""
    fair, greedy, thief = tables.users(3)
    deducts = {user.user_id: user.record(-2) for user in (fair, greedy)}
    ids = {key: transactions([deduct])[0].id for key, deduct in deducts.items()}
    store.store(SHARD, [*deducts.values()])
    refunds = [
        fair.record(1, "refund", refund_of=ids[fair.user_id]),
        fair.record(1, "refund", refund_of=ids[fair.user_id]),
        greedy.record(2, "refund", refund_of=ids[greedy.user_id]),
        greedy.record(1, "refund", refund_of=ids[greedy.user_id], description="\0"),
        thief.record(1, "refund", refund_of=ids[fair.user_id]),
    ]
    store.store(SHARD, refunds)
    findings = audit.verify()
    assert kinds(findings) == [
        (DriftKind.REFUND, greedy.user_id),
        (DriftKind.REFUND, thief.user_id),
    ]
    assert [(f.expected, f.found) for f in findings] == [(2, 3), (0, 1)]


def test_a_profile_behind_its_rows_is_found(
    tables: Database, store: Sink, audit: PostgresAudit
) -> None:
    """A ledger rebuilt from it would number new transactions like old ones."""
    user = tables.user()
    store.store(SHARD, user.deducts(2))
    tables.run("update public.profiles set credits_sequence = 1 where id = %s", user.user_id)
    (finding,) = audit.verify()
    assert (finding.kind, finding.expected, finding.found) == (DriftKind.PROJECTION, 3, 1)


def test_a_connection_that_broke_is_replaced(tables: Database, audit: PostgresAudit) -> None:
    """The question at hand fails; the next one is answered."""
    audit.identity()
    tables.run(
        "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
        " where datname = current_database() and application_name = 'faregate audit'"
    )
    with pytest.raises(ArchiveUnavailableError, match="cannot read the rows"):
        audit.identity()
    assert audit.identity().epoch == 1


def test_the_digest_is_of_all_that_proves_a_row(
    tables: Database, store: Sink, audit: PostgresAudit
) -> None:
    """A shard that the ledger has no more, and what a repair has made known."""
    user = tables.user()
    store.store(SHARD, user.deducts(1))
    known = audit.digest()
    tables.run("update faregate.ledger set shard_count = 1")
    assert audit.digest() == known
    tables.run("update faregate.batches set chain = sha256(chain)")
    assert audit.digest() != known
    tables.run("update faregate.ledger set shard_count = 16")
    known = audit.digest()
    tables.run(
        "insert into faregate.repairs"
        " (finding_id, kind, action, detail, leaves, actor, reason, ended_at)"
        " values ('none', 'none', 'adopt', 'none', sha256('a'), 'ann', 'a test', now())"
    )
    assert audit.digest() != known
