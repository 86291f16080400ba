"""Importing a journal by the command line, on real servers."""

from dataclasses import replace
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from commands import CommandLine
from durable import Database
from faregate import CreditTransactionId
from faregate.adapters.journal.writer import FileJournal
from journals import entry

pytestmark = [pytest.mark.redis, pytest.mark.postgres]


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ledger_redis: str) -> UUID:
    """Somebody who was first seen in an outage, and was served."""
    user_id = uuid4()
    journal = FileJournal(tmp_path, bytes_max=10_000)
    attempt_id = CreditTransactionId.derive("attempt", user_id)
    journal.write(replace(entry(1), user_id=user_id, attempt_id=attempt_id))
    journal.close()
    monkeypatch.setenv("FAREGATE_JOURNAL_DIR", str(tmp_path))
    monkeypatch.setenv("FAREGATE_REDIS_URL", ledger_redis)
    return user_id


def test_users_who_were_first_seen_in_an_outage_are_made_by_the_import(
    stranger: UUID,
    tables: Database,
    database_url: str,
    command_line: CommandLine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As by their first request; where users are not provisioned, they are reported."""
    monkeypatch.setenv("FAREGATE_POSTGRES_URL", database_url)
    monkeypatch.setenv("FAREGATE_PROVISION_USERS", "false")
    told = command_line.tell("journal", "import", code=1)
    made = "select id from auth.users where id = %s"
    assert (told["unknown_user"], tables.run(made, stranger)) == (1, [])
    for path in Path(told["files_done"][0]).parent.glob("*.imported"):
        path.rename(path.with_suffix(""))
    monkeypatch.setenv("FAREGATE_PROVISION_USERS", "true")
    told = command_line.tell("journal", "import")
    assert (told["collected"], told["credits_taken"]) == (1, 1)
    assert len(tables.run(made, stranger)) == 1
