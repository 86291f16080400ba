"""A journal in a list, for tests of fail-open requests."""

from faregate.domain.health import JournalState
from faregate.domain.journal import JournalChange, JournalEntry


class MemoryJournal:
    """The port `Journal`."""

    def __init__(self) -> None:
        #: All lines, oldest first.
        self.lines: list[JournalEntry | JournalChange] = []

    def write(self, line: JournalEntry | JournalChange) -> None:
        """Append a line."""
        self.lines.append(line)

    @property
    def state(self) -> JournalState:
        """The number of its requests; its size is 0."""
        entries = sum(isinstance(line, JournalEntry) for line in self.lines)
        return JournalState(requests=entries, bytes=0, bytes_max=0)

    async def aclose(self) -> None:
        """Do nothing: there is no disk."""
