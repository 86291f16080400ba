"""What lasts in Postgres, as it is compared with live accounts while traffic flows."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import Enum
from typing import Protocol
from uuid import UUID

from faregate.domain.alignment import LiveAccount, LostTransaction
from faregate.ports.pending import Copy, Cursor


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerSum:
    """What the rows of a user, and the dead letters that count as rows, add up to."""

    credits: int
    allowance_left: int
    #: The highest number, and the newest epoch; 0 where there is none.
    sequence_max: int
    epoch_max: int
    #: When the newest period began, in Unix milliseconds; 0 where there is none.
    period_start_ms: int


class Known(Enum):
    """What Postgres has made of a record."""

    #: A row, or a dead letter that counts as one.
    COUNTED = "counted"
    #: A dead letter that was discarded.
    DISCARDED = "discarded"


class Snapshot(Protocol):
    """Postgres as of one moment."""

    @property
    def epoch(self) -> int:
        """The epoch of the ledger."""
        ...

    def sums(self, users: Sequence[UUID]) -> Mapping[UUID, LedgerSum]:
        """Add up for each user that has a profile or a row."""
        ...

    def known(self, copies: Sequence[Copy]) -> Mapping[str, Known]:
        """Return by their addresses which records of one stream are known."""
        ...

    def lost(
        self, account: LiveAccount, pending: range, later: Sequence[UUID]
    ) -> Sequence[LostTransaction]:
        """Return what a live account does not know, in the order of numbers; the newest, bounded.

        That is what has a number that the account has not reached, or one of a pending record, or
        one that something newer has, too.

        Args:
            account: The account.
            pending: The numbers of its records that are not known to be rows.
            later: The ids of records that were made after the account was looked at.
        """
        ...


class Snapshots(Protocol):
    """Takes snapshots. Implemented by Postgres, for operators."""

    def cursors(self) -> Mapping[int, Cursor]:
        """Return the newest cursor of each shard of which a batch was stored."""
        ...

    def take(self) -> AbstractContextManager[Snapshot]:
        """Take a snapshot, and hold it."""
        ...
