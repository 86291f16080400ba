"""What lasts on the disk: the journal of what a process serves without a decision."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from faregate.domain.health import JournalState
from faregate.domain.journal import JournalChange, JournalEntry


class Journal(Protocol):
    """Keeps what this process serves without a decision. Implemented by files."""

    def write(self, line: JournalEntry | JournalChange) -> None:
        """Keep a line; when this returns, it outlives the process. Takes microseconds.

        A change of an entry that was kept finds room, however full the journal is.

        Raises:
            JournalError: It is full, or cannot be written; nothing is kept.
        """
        ...

    @property
    def state(self) -> JournalState:
        """How much there is in it."""
        ...

    async def aclose(self) -> None:
        """Make sure that all of it is on the disk."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalLine:
    """One line of a journal, as it is read."""

    #: Where the line lies, counted from 1.
    number: int
    #: What it says, or None where it cannot be read; `problem` then says why.
    content: JournalEntry | JournalChange | None
    problem: str = ""


class JournalFile(Protocol):
    """A journal as the import meets it, perhaps while its process goes on writing."""

    @property
    def name(self) -> str:
        """Where it is."""
        ...

    def size(self) -> int:
        """Return up to where its lines are whole, in bytes."""
        ...

    def lines(self, start: int, end: int) -> Iterator[JournalLine]:
        """Iterate over the lines between two places, in bytes, at each of which a line begins."""
        ...

    def retire(self, end: int) -> bool:
        """Put it away, so that it is not read again, if there is no line after `end`."""
        ...

    @property
    def is_torn(self) -> bool:
        """Of one that was put away: whether its last line was never finished, and so not served."""
        ...
