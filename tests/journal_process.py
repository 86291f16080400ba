"""A process that writes a journal: `journal_process.py FOLDER [fork]`.

It tells the id of each request after it has written it, until it is killed; with `fork`, it writes
one, forks, and lets child and parent write one more each.
"""

import os
import sys
from itertools import count
from pathlib import Path
from uuid import UUID

from faregate.adapters.journal.writer import FileJournal
from faregate.domain.journal import JournalEntry
from faregate.domain.transaction import CreditTransactionId

BYTES_MAX = 2**30


def write(journal: FileJournal, number: int) -> str:
    """Write down one request, and return its id."""
    attempt_id = CreditTransactionId.mint(number)
    journal.write(
        JournalEntry(
            attempt_id=attempt_id,
            user_id=UUID(int=1),
            cost=1,
            description="request",
            asked_at_ms=number,
            deadline_ms=number,
            served_at_ms=number,
        )
    )
    return str(attempt_id)


def main(folder: str, *what: str) -> None:
    """Do what the command line says."""
    journal = FileJournal(Path(folder), bytes_max=BYTES_MAX)
    if not what:
        for number in count():
            sys.stdout.write(f"{write(journal, number)}\n")
            sys.stdout.flush()
    write(journal, 1)
    child = os.fork()
    write(journal, 2)
    if child:
        os.waitpid(child, 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
