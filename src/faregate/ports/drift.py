"""Postgres as live accounts are compared with it while traffic flows."""

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
    """The sum of a user's rows and of the dead letters that count as rows."""

    credits: int
    allowance_left: int
    #: The highest number, and the newest epoch; 0 where there is none.
    sequence_max: int
    epoch_max: int
    #: When the newest period began, in Unix milliseconds; 0 where there is none.
    period_start_ms: int


class Known(Enum):
    """The form in which Postgres knows a record."""

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
        """Return transactions that a live account does not contain; the newest, bounded, in order.

        Each has a number beyond that of the account, or the number of a pending record, or a number
        that a newer transaction has, too.

        Args:
            account: The account.
            pending: The numbers of its records that are not known to be rows.
            later: The ids of records that were made after the account was read.
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
