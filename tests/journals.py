"""Entries of a journal for tests, and what its files say."""

from pathlib import Path
from uuid import UUID

from faregate.adapters.journal.reader import FileJournalReader, find_journals
from faregate.domain.journal import JournalChange, JournalEntry
from faregate.domain.transaction import CreditTransactionId

USER = UUID(int=1)


def entry(number: int = 1, **rest: object) -> JournalEntry:
    """Return the entry that a number stands for; it costs as much."""
    return JournalEntry(
        attempt_id=CreditTransactionId.derive("attempt", UUID(int=number)),
        user_id=USER,
        cost=number,
        description="request",
        asked_at_ms=number,
        deadline_ms=number + 50,
        served_at_ms=number,
        **rest,  # type: ignore[arg-type]
    )


def refund_of(entry: JournalEntry, amount: int | None = None) -> JournalChange:
    """Return the refund of all of an entry, or of a part."""
    return JournalChange(
        attempt_id=entry.attempt_id,
        user_id=entry.user_id,
        refund_id=CreditTransactionId.derive(f"refund {amount}", entry.attempt_id.value),
        amount=amount,
    )


def contents(reader: FileJournalReader, start: int = 0) -> list[object]:
    """Return what all lines say, or why they say nothing."""
    return [line.content or line.problem for line in reader.lines(start, reader.size())]


def read(folder: Path) -> list[object]:
    """Return what all files in a folder say, in the order of their names."""
    return [line for reader in find_journals([folder]) for line in contents(reader)]
