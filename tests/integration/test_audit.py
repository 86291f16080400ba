"""Reconciliation finds exactly the users whose numbers disagree, while traffic flows."""

import threading
from collections.abc import Iterator, Sequence
from uuid import UUID, uuid4

import pytest

from durable import (
    STARTING_CREDITS,
    Database,
    History,
    Sink,
    archive,
    as_role,
    copies,
    transactions,
)
from faregate.adapters.postgres.audit import PostgresAudit
from faregate.adapters.postgres.migration_files import migrations
from faregate.domain.finding import DriftKind, Finding
from faregate.domain.identity import LedgerIdentity
from faregate.ports import StreamEntry

pytestmark = pytest.mark.postgres

SHARD = 7


@pytest.fixture
def audit(database_url: str) -> Iterator[PostgresAudit]:
    """The audit under test."""
    opened = PostgresAudit(as_role(database_url, "faregate_worker"))
    yield opened
    opened.close()


def compare(
    audit: PostgresAudit, users: Sequence[History], entries: Sequence[StreamEntry] = ()
) -> Sequence[Finding]:
    """Compare users with what Redis has of them."""
    live = {user.user_id: user.live for user in users}
    return audit.compare(list(live), live, copies(entries))


def kinds(findings: Sequence[Finding]) -> list[tuple[DriftKind, UUID | None]]:
    """What was found, of whom."""
    return [(finding.kind, finding.user_id) for finding in findings]


def test_the_identity_has_the_settings_of_the_created_ledger(audit: PostgresAudit) -> None:
    """The same as the API reads."""
    found = audit.identity()
    expected = LedgerIdentity(
        ledger_id=found.ledger_id,
        shard_count=16,
        starting_credits=STARTING_CREDITS,
        epoch=1,
        installed=False,
    )
    assert found == expected


def test_users_are_listed_page_by_page_with_or_without_a_profile(
    tables: Database, store: Sink, audit: PostgresAudit
) -> None:
    """Nobody is left out, nobody comes twice, and a page has a size."""
    users = tables.users(7)
    store.store(SHARD, [e for user in users for e in user.deducts(3)])
    tables.run("delete from public.profiles where id = %s", users[4].user_id)
    pages, after = [], None
    while page := audit.users(after, 3):
        pages.append(list(page))
        after = page[-1]
    ids = [user.user_id for user in users]
    assert pages == [ids[:3], ids[3:6], ids[6:]]


def test_a_ledger_in_order_has_no_findings(
    tables: Database, store: Sink, audit: PostgresAudit
) -> None:
    """Rows, dead letters and records that wait add up to the live balances."""
    users = tables.users(5)
    drained = [e for user in users for e in user.deducts(2)]
    refused = [user.record(-1, description="\0") for user in users]
    waiting = [e for user in users for e in user.deducts(2)]
    store.store(SHARD, [*drained, *refused])
    assert compare(audit, users, waiting) == []
    assert audit.verify() == []
    assert audit.dead_letter_count() == 5


def test_a_lost_pending_record_is_a_finding(
    tables: Database, store: Sink, audit: PostgresAudit
) -> None:
    """A live balance that no record explains is drift, with both numbers."""
    user, other = tables.users(2)
    store.store(SHARD, [*user.deducts(2), *other.deducts(1)])
    user.deducts(1)
    (finding,) = compare(audit, [user, other])
    assert (finding.kind, finding.user_id) == (DriftKind.LIVE, user.user_id)
    assert (finding.expected, finding.found) == (1, 0)
    assert str(user.user_id) in finding.detail
    assert "(-1)" in finding.detail


def test_an_altered_live_balance_is_found_and_nobody_else(
    tables: Database, store: Sink, audit: PostgresAudit
) -> None:
    """One number of many, in either direction, by whatever amount."""
    users = tables.users(50)
    store.store(SHARD, [e for user in users for e in user.deducts(2)])
    for altered, difference in ((users[17], 1), (users[33], -(10**30))):
        altered.credits += difference
        (finding,) = compare(audit, users)
        assert (finding.kind, finding.user_id) == (DriftKind.LIVE, altered.user_id)
        assert (finding.expected, finding.found) == (1, 1 + difference)
        altered.credits -= difference


def test_an_altered_profile_is_found_and_nobody_else(
    tables: Database, store: Sink, audit: PostgresAudit
) -> None:
    """The projection is compared with the rows, whether or not the user is live."""
    users = tables.users(10)
    store.store(SHARD, [e for user in users for e in user.deducts(2)])
    altered = users[4]
    tables.run("update public.profiles set credits = 99 where id = %s", altered.user_id)
    (finding,) = compare(audit, users)
    assert (finding.kind, finding.user_id) == (DriftKind.PROJECTION, altered.user_id)
    assert (finding.expected, finding.found) == (1, 99)
    assert kinds(audit.compare([altered.user_id], {}, [])) == kinds([finding])


def test_rows_without_a_profile_are_found(tables: Database, audit: PostgresAudit) -> None:
    """Their sum is nowhere."""
    user = tables.user()
    tables.run("delete from public.profiles where id = %s", user.user_id)
    (finding,) = compare(audit, [user])
    assert (finding.kind, finding.expected, finding.found) == (DriftKind.PROJECTION, 3, None)


def test_a_row_made_by_hand_is_found(tables: Database, audit: PostgresAudit) -> None:
    """It changes what the rows add up to, but neither the profile nor the live balance."""
    user = tables.user()
    tables.run(
        "insert into public.credit_transactions (user_id, amount, type, description)"
        " values (%s, 5, 'add', 'by hand')",
        user.user_id,
    )
    assert kinds(compare(audit, [user])) == [
        (DriftKind.PROJECTION, user.user_id),
        (DriftKind.LIVE, user.user_id),
    ]


def test_rows_beyond_the_live_sequence_do_not_count(
    tables: Database, store: Sink, audit: PostgresAudit
) -> None:
    """Traffic goes on between the reading of Redis and that of Postgres."""
    user = tables.user()
    store.store(SHARD, user.deducts(1))
    earlier = {user.user_id: user.live}
    drained, refused = user.record(-1), user.record(-1, description="\0")
    store.store(SHARD, [drained, refused])
    entries = [drained, refused, *user.deducts(3)]
    assert audit.compare([user.user_id], earlier, copies(entries)) == []


def test_a_copy_counts_once_as_a_row_a_dead_letter_or_a_pending_record(
    tables: Database, store: Sink, audit: PostgresAudit
) -> None:
    """A record may be drained, or kept as a dead letter, after its copy was read."""
    user = tables.user()
    records = [user.record(-1), user.record(-1, description="\0"), user.record(-1)]
    assert compare(audit, [user], records) == []
    assert compare(audit, [user], [*records, *records]) == []
    store.store(SHARD, records[:2])
    assert compare(audit, [user], records) == []
    store.store(SHARD, records)
    assert compare(audit, [user], records) == []


def test_a_copy_whose_dead_letter_has_no_room_for_its_epoch_counts_once(
    tables: Database, store: Sink, audit: PostgresAudit
) -> None:
    """Its place in the stream tells that they are the same."""
    user = tables.user()
    copy = user.record(-1, epoch=2**64 - 1)
    assert compare(audit, [user], [copy]) == []
    store.store(SHARD, [copy])
    assert compare(audit, [user], [copy]) == []


def test_a_conflict_is_pending_of_its_own(
    tables: Database, store: Sink, audit: PostgresAudit
) -> None:
    """It moved the live balance beside the row whose id it has, before and after it is kept."""
    user = tables.user()
    known = user.record(-1)
    conflict = user.record(-1, id=transactions([known])[0].id)
    store.store(SHARD, [known])
    assert compare(audit, [user], [conflict]) == []
    store.store(SHARD, [conflict])
    assert compare(audit, [user], [conflict]) == []
    assert compare(audit, [user]) == []


def test_a_discarded_dead_letter_counts_no_more(
    tables: Database, store: Sink, audit: PostgresAudit
) -> None:
    """Nor does its copy: somebody decided that it never happened."""
    user = tables.user()
    refused = user.record(-1, description="\0")
    store.store(SHARD, [refused])
    tables.run("update faregate.dead_letters set discarded_at = now(), discarded_by = 'test'")
    for records in ([], [refused]):
        (finding,) = compare(audit, [user], records)
        assert (finding.kind, finding.expected, finding.found) == (DriftKind.LIVE, 3, 2)
    assert audit.dead_letter_count() == 0
    assert audit.verify() == []


def test_rows_older_than_faregate_count(
    tables: Database, store: Sink, audit: PostgresAudit
) -> None:
    """A history may begin with a balance that no numbered row explains."""
    user = tables.user()
    tables.run("delete from public.profiles where id = %s", user.user_id)
    tables.run("set session_replication_role = replica")
    tables.run("delete from public.credit_transactions where user_id = %s", user.user_id)
    tables.run("set session_replication_role = origin")
    tables.run(
        "insert into public.credit_transactions (user_id, amount, type, description)"
        " values (%s, 7, 'add', 'old')",
        user.user_id,
    )
    tables.run(next(one.sql for one in migrations() if one.name.endswith("add_repairs.sql")))
    tables.run("insert into public.profiles (id) values (%s)", user.user_id)
    upgraded = History(user.user_id, 7)
    upgraded.sequence = 0
    store.store(SHARD, upgraded.deducts(2))
    assert tables.profile(user.user_id) == (5, 2)
    assert compare(audit, [upgraded]) == []
    assert audit.verify() == []


def test_a_user_deleted_since_it_was_listed_has_no_finding(
    tables: Database, store: Sink, audit: PostgresAudit
) -> None:
    """Its live balance may outlive it."""
    user = tables.user()
    store.store(SHARD, user.deducts(1))
    tables.run("delete from auth.users where id = %s", user.user_id)
    store.store(SHARD, user.deducts(2))
    assert compare(audit, [user], user.deducts(1)) == []
    assert audit.verify() == []
    assert audit.dead_letter_count() == 2


def test_copies_that_cannot_be_read_or_that_are_absurd_are_no_obstacle(
    tables: Database, store: Sink, audit: PostgresAudit
) -> None:
    """Nothing in a stream may stop a reconciliation."""
    user = tables.user()
    huge = user.record(-1, sequence=2**64 - 1, epoch=2**64 - 1)
    broken = StreamEntry(stream_id="1-1", payload=b"?", transaction=None, problem="no record")
    stranger = History(uuid4()).record(-1)
    user.sequence = 2**70
    assert compare(audit, [user], [huge, broken, stranger]) == []


def test_findings_stay_away_while_batches_are_stored(
    database_url: str, tables: Database, audit: PostgresAudit
) -> None:
    """Every comparison sees each record either as a copy or as a row, never as both or neither."""
    users = tables.users(20)
    records = [user.record(-1) for _ in range(60) for user in users]
    done = threading.Event()

    def drain() -> None:
        with archive(database_url) as opened:
            for n in range(0, len(records), 30):
                opened.store(SHARD, records[n : n + 30])
        done.set()

    draining = threading.Thread(target=drain)
    draining.start()
    comparisons = [compare(audit, users, records)]
    while not done.is_set():
        comparisons.append(compare(audit, users, records))
    draining.join()
    comparisons.append(compare(audit, users, records))
    assert [findings for findings in comparisons if findings] == []
    assert len(tables.rows(users[0].user_id)) == 60
