"""The port to Postgres for repairs."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Protocol
from uuid import UUID

from faregate.domain.repair import LiveChange, RepairEvent, Row, RowContext


class Repairs(Protocol):
    """Rows, profiles and events, in the role of the owner. Implemented for Postgres."""

    def locked(self) -> AbstractContextManager[None]:
        """Hold the lock of all repairs within the block.

        Raises:
            ConfigurationError: Another repair holds it.
        """
        ...

    def row_context(self, user_id: UUID, first: int, last: int) -> RowContext:
        """Return the rows and sums around some sequences of a user."""
        ...

    def row(self, row_id: UUID) -> Row | None:
        """Return a row as it is now."""
        ...

    def proven(self, rows: Sequence[Row]) -> Sequence[bool]:
        """Return for each row whether a batch wrote such a row."""
        ...

    def begin(self, event: RepairEvent, deadline_at: datetime | None = None) -> None:
        """Note that a step begins, and the deadline of its command in Redis."""
        ...

    def act(self, event: RepairEvent) -> None:
        """Apply a step that changes only Postgres, and note its end, in one commit."""
        ...

    def end(self, event: RepairEvent, change: LiveChange | None) -> None:
        """Note the end of a step on a live balance; None if nothing changed."""
        ...
