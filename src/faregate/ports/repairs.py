"""Postgres as a repair uses it."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Protocol
from uuid import UUID

from faregate.domain.repair import LiveChange, RepairEvent, Row, RowContext


class Repairs(Protocol):
    """Rows, profiles and events, in the role of the owner. Implemented by Postgres."""

    def locked(self) -> AbstractContextManager[None]:
        """Hold the lock of all repairs for as long as this is open.

        Raises:
            ConfigurationError: Another one is at work.
        """
        ...

    def row_context(self, user_id: UUID, first: int, last: int) -> RowContext:
        """Return the rows and sums around some numbers of a user."""
        ...

    def row(self, row_id: UUID) -> Row | None:
        """Return a row as it is now."""
        ...

    def proven(self, rows: Sequence[Row]) -> Sequence[bool]:
        """Say of each row whether a batch wrote such a row."""
        ...

    def begin(self, event: RepairEvent, deadline_at: datetime | None = None) -> None:
        """Note that a step begins, and until when Redis may still execute its command."""
        ...

    def act(self, event: RepairEvent) -> None:
        """Do a step that needs only Postgres, and note its end, in one commit."""
        ...

    def end(self, event: RepairEvent, change: LiveChange | None) -> None:
        """Note the end of a step that changed a live balance; None if nothing was changed."""
        ...
