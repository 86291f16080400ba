"""The port to compare Postgres with live accounts under traffic."""

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
    #: The highest sequence, and the newest epoch; 0 if there is none.
    sequence_max: int
    epoch_max: int
    #: When the newest period began, in Unix milliseconds; 0 if there is none.
    period_start_ms: int


class Known(Enum):
    """How Postgres knows a record."""

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
        """Return the sums of each user that has a profile or a row."""
        ...

    def known(self, copies: Sequence[Copy]) -> Mapping[str, Known]:
        """Return the known records of one stream by their addresses."""
        ...

    def lost(
        self, account: LiveAccount, pending: range, later: Sequence[UUID]
    ) -> Sequence[LostTransaction]:
        """Return the newest transactions that a live account does not contain, in order.

        Each has a sequence beyond that of the account, or that of a pending record, or that of a
        newer transaction.

        Args:
            account: The account.
            pending: The sequences of its pending records.
            later: The ids of records that were made after the account was read.
        """
        ...


class Snapshots(Protocol):
    """Takes snapshots. Implemented for Postgres, for operators."""

    def cursors(self) -> Mapping[int, Cursor]:
        """Return the newest cursor of each shard that has one."""
        ...

    def take(self) -> AbstractContextManager[Snapshot]:
        """Take a snapshot for the block."""
        ...
