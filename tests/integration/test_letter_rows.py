"""Rows that are made of dead letters: what they hold, and what else stays as it is."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest

from durable import Database, Sink, as_role, copies, transactions
from faregate.adapters.postgres.audit import PostgresAudit
from faregate.adapters.postgres.letters import PostgresLetters
from faregate.adapters.redis.records import read_alone
from faregate.domain.dead_letter import LetterOutcome
from faregate.domain.errors import ArchiveUnavailableError
from faregate.domain.operator import Operator
from recorded import recorded

pytestmark = pytest.mark.postgres

SHARD = 7
ANN = Operator("ann", "ticket 7")


@pytest.fixture
def audit(database_url: str) -> Iterator[PostgresAudit]:
    """What an operator asks."""
    with closing(PostgresAudit(as_role(database_url, "faregate_worker"))) as opened:
        yield opened


@pytest.fixture
def letters(database_url: str) -> Iterator[PostgresLetters]:
    """The dead letters of the owner."""
    with closing(PostgresLetters(database_url, read_alone)) as opened:
        yield opened


def only(tables: Database, letters: PostgresLetters) -> Any:
    """The only letter there is."""
    (letter,) = letters.letters([row["id"] for row in tables.dead_letters()])
    return letter


@pytest.mark.parametrize("credits_left", [1, -2], ids=["paid", "in debt"])
def test_text_that_postgres_cannot_hold_is_replaced_in_a_resolved_row(
    tables: Database,
    store: Sink,
    letters: PostgresLetters,
    audit: PostgresAudit,
    *,
    credits_left: int,
) -> None:
    """Live credits, rows and chains agree, before and after the next charges."""
    user = tables.user()
    first = user.record(credits_left - user.credits + 1)
    refused = recorded(user.record(-1, description="a\0b"))
    store.store(SHARD, [first, refused])
    letter = only(tables, letters)
    assert letters.make_row(letter, LetterOutcome.RETRIED, ANN).outcome is LetterOutcome.STAYS
    assert letters.make_row(letter, LetterOutcome.RESOLVED, ANN).row_id == letter["transaction_id"]
    assert tables.profile(user.user_id) == (credits_left, 3)
    assert tables.rows(user.user_id)[-1]["description"] == "a\ufffdb"
    for number in (0, 2):
        later = user.deducts(number)
        store.store(SHARD, later)
        live = {user.user_id: user.live}
        assert audit.compare([user.user_id], live, copies([refused, *later])) == []
        assert audit.verify() == []
    assert audit.dead_letter_count() == 0


def test_a_resolved_conflict_has_a_new_id_and_names_that_of_the_record(
    tables: Database, store: Sink, letters: PostgresLetters, audit: PostgresAudit
) -> None:
    """The id is that of a row with other content."""
    user = tables.user()
    known = recorded(user.record(-1))
    (taken,) = transactions([known])
    store.store(SHARD, [known, recorded(user.record(-2, id=taken.id))])
    letter = only(tables, letters)
    assert letters.make_row(letter, LetterOutcome.RETRIED, ANN).outcome is LetterOutcome.STAYS
    row_id = letters.make_row(letter, LetterOutcome.RESOLVED, ANN).row_id
    _, row = tables.rows(user.user_id)
    assert (row["id"], row["amount"], row["sequence"]) == (row_id, -2, 3)
    assert row_id != taken.id.value
    assert row["metadata"]["original_id"] == str(taken.id)
    assert audit.compare([user.user_id], {user.user_id: user.live}, []) == []
    assert audit.verify() == []


def test_a_record_whose_sequence_is_used_is_not_a_row(
    tables: Database, store: Sink, letters: PostgresLetters, audit: PostgresAudit
) -> None:
    """Two rows of one number would be a fork."""
    user = tables.user()
    refused = recorded(user.record(-1, description="\0"))
    user.sequence -= 1
    store.store(SHARD, [refused, user.record(-1)])
    treated = letters.make_row(only(tables, letters), LetterOutcome.RESOLVED, ANN)
    assert treated.outcome is LetterOutcome.STAYS
    assert treated.reason == "transaction 2 of its user is another row"
    assert len(tables.rows(user.user_id)) == 1


def test_two_operators_at_once_make_one_row(
    tables: Database, store: Sink, database_url: str, letters: PostgresLetters
) -> None:
    """The other one is told that it was done before."""
    user = tables.user()
    store.store(SHARD, [recorded(user.record(-1, description="\0"))])
    letter = only(tables, letters)

    def resolved(_: int) -> bool:
        with closing(PostgresLetters(database_url, read_alone)) as opened:
            return opened.make_row(letter, LetterOutcome.RESOLVED, ANN).repeated

    with ThreadPoolExecutor(4) as operators:
        assert sorted(operators.map(resolved, range(4))) == [False, True, True, True]
    assert tables.profile(user.user_id) == (2, 2)


def test_nothing_of_a_letter_is_left_once_its_user_is_deleted(
    tables: Database, store: Sink, letters: PostgresLetters
) -> None:
    """Neither the row that it became nor what an operator wrote about it."""
    user = tables.user()
    store.store(SHARD, [recorded(user.record(-1, description="\0"))])
    letter = only(tables, letters)
    letters.make_row(letter, LetterOutcome.RESOLVED, ANN)
    tables.run("delete from auth.users where id = %s", user.user_id)
    (left,) = tables.dead_letters()
    assert (left["row_id"], left["actor_reason"], left["payload"]) == (None, None, b"")


def test_a_leaf_is_added_to_no_batch_that_was_changed_by_hand(
    tables: Database, store: Sink, letters: PostgresLetters, audit: PostgresAudit
) -> None:
    """It would hide the change; nothing is stored, and verification finds what was changed."""
    user = tables.user()
    store.store(SHARD, [*user.deducts(1), recorded(user.record(-1, description="\0"))])
    tables.run("update faregate.batches set leaves = substr(leaves, 2) || '\\x00'")
    with pytest.raises(ArchiveUnavailableError, match="faregate verify"):
        letters.make_row(only(tables, letters), LetterOutcome.RESOLVED, ANN)
    assert tables.profile(user.user_id) == (2, 2)
    assert "forged" in {finding.kind for finding in audit.verify()}
