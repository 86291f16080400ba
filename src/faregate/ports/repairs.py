"""What a repair needs of Postgres."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Protocol
from uuid import UUID

from faregate.domain.repair import Around, Event, LiveChange, Row


class Repairs(Protocol):
    """Rows, profiles and events, in the role of the owner. Implemented by Postgres."""

    def held(self) -> AbstractContextManager[None]:
        """Keep every other repair away, for as long as this is open.

        Raises:
            ConfigurationError: Another one is at work.
        """
        ...

    def around(self, user_id: UUID, first: int, last: int) -> Around:
        """Return what surrounds some numbers of a user."""
        ...

    def row(self, row_id: UUID) -> Row | None:
        """Return a row as it is now."""
        ...

    def proven(self, rows: Sequence[Row]) -> Sequence[bool]:
        """Say of each row whether a batch wrote such a row."""
        ...

    def begin(self, event: Event, deadline_at: datetime | None = None) -> None:
        """Say what is about to be done, and until when what is sent to Redis may still happen."""
        ...

    def act(self, event: Event) -> None:
        """Do a step that only Postgres is needed for, and say that it is done, in one commit."""
        ...

    def end(self, event: Event, change: LiveChange | None) -> None:
        """Say what has become of a live balance; None where nothing was done."""
        ...
