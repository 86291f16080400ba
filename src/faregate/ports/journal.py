"""The ports to journals: requests that a process serves without a decision."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from faregate.domain.health import JournalState
from faregate.domain.journal import JournalChange, JournalEntry


class Journal(Protocol):
    """The journal of this process. Implemented by files."""

    def write(self, line: JournalEntry | JournalChange) -> None:
        """Append a line, which then outlives the process. It takes microseconds.

        A change of a written entry always finds room, even in a full journal.

        Raises:
            JournalError: It is full, or cannot be written; nothing was written.
        """
        ...

    @property
    def state(self) -> JournalState:
        """The size of the journal, and the number of its requests."""
        ...

    async def aclose(self) -> None:
        """Sync the journal to disk, and close it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalLine:
    """One line of a journal, for the import."""

    #: The number of the line, from 1.
    number: int
    #: The content of the line, or None if it cannot be read; then `problem` has the reason.
    content: JournalEntry | JournalChange | None
    problem: str = ""


class JournalFile(Protocol):
    """A journal for the import, perhaps while its process goes on writing."""

    @property
    def name(self) -> str:
        """The path of the file."""
        ...

    def size(self) -> int:
        """Return the size of its complete lines, in bytes."""
        ...

    def lines(self, start: int, end: int) -> Iterator[JournalLine]:
        """Iterate over the lines between two offsets in bytes, both at the start of a line."""
        ...

    def retire(self, end: int) -> bool:
        """Retire the file, so that it is not read again, if no line follows `end`."""
        ...

    @property
    def is_torn(self) -> bool:
        """For a retired journal: whether its last line is incomplete, and so was not served."""
        ...
