"""The ports to pending records, for the worker."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from faregate.domain.transaction import CreditTransaction, TransactionType


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamEntry:
    """One record of a shard's stream."""

    #: The address of the record: the position of the entry that holds it, and its index there.
    stream_id: str
    #: The bytes of the record as an entry of its own, for a dead letter.
    payload: bytes
    #: The transaction, or None if it cannot be read; then `problem` has the reason.
    transaction: CreditTransaction | None
    problem: str = ""
    #: The ordinal of the record in its shard and epoch; 0 if it cannot be read.
    ordinal: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """The part of a record that is compared with rows."""

    #: The address of the record: the position of the entry that holds it, and its index there.
    stream_id: str
    id: UUID
    user_id: UUID
    amount: int
    type: TransactionType
    sequence: int
    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """How far the records of a shard are rows: its newest stored batch."""

    #: The number of the batch in its shard: 1, 2, 3, ...
    number: int
    #: The epoch of the batch.
    epoch: int
    #: The last entry of the batch: its position, and the SHA-256 of its bytes in Redis.
    position: str
    digest: bytes
    #: The number of its last record in the shard.
    ordinal: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Fork:
    """A shard whose stream lacks the entry of its cursor, since Redis lost it."""

    shard: int
    #: The cursor. Its entry is lost.
    before: Cursor
    #: The end of the newest batch that Redis still has; None if it has none.
    after: Cursor | None
    #: No record that is older was lost.
    lost_since: datetime
    #: The records that Redis still has of those that followed `after`: their ids and times.
    common: Sequence[tuple[UUID, datetime]]

    @property
    def end(self) -> Cursor:
        """The cursor from which the shard goes on."""
        after = self.after
        return Cursor(
            number=self.before.number + 1,
            epoch=self.before.epoch,
            position=after.position if after else "0-0",
            digest=after.digest if after else bytes(32),
            ordinal=after.ordinal if after else 0,
        )


class Batch(Protocol):
    """Consecutive entries of a shard, to be stored together. It ends with a whole entry.

    A batch follows a cursor, and is stored only while that is still the newest one.
    """

    @property
    def shard(self) -> int:
        """The shard of its stream."""
        ...

    @property
    def after(self) -> Cursor | None:
        """The cursor that it follows; None if there was none."""
        ...

    @property
    def is_from_start(self) -> bool:
        """Whether it begins the stream, since the stream has no entry of the cursor."""
        ...

    @property
    def end(self) -> Cursor:
        """The cursor once this is stored."""
        ...

    @property
    def first_position(self) -> str:
        """The position of its first entry."""
        ...

    @property
    def first_ordinal(self) -> int:
        """The number of its first record; greater than that of its end if it has no numbers."""
        ...

    @property
    def count(self) -> int:
        """The number of records in its headers."""
        ...

    @property
    def lines(self) -> bytes | None:
        """The records as lines of `ROW_COLUMNS`; None if one cannot be a plain row."""
        ...

    def records(self) -> Sequence[StreamEntry]:
        """Read all records; unreadable ones have their error in `problem`."""
        ...

    def head(self, count_max: int) -> "Batch":
        """Return a batch of its first entries: at most `count_max` records, one entry at least."""
        ...


#: The fields of a line: the place of the record in the batch, from 0, then the columns of its row.
#: Fields are separated by tabs and escaped as in the text format of COPY.
ROW_COLUMNS = (
    "place",
    "id",
    "user_id",
    "amount",
    "type",
    "description",
    "metadata",
    "timestamp",
    "sequence",
    "balance_after",
    "epoch",
    "refund_of",
    "allowance_amount",
    "allowance_after",
    "period_start",
)


class TransactionStream(Protocol):
    """The pending records, one stream for each shard. Implemented for Redis."""

    @property
    def shard_count(self) -> int:
        """The number of shards, numbered from 0."""
        ...

    def shards_pending(self) -> Sequence[int]:
        """Return the shards with pending records, among those whose nodes answer."""
        ...

    def read(self, shard: int, cursor: Cursor | None, count_max: int) -> Batch | None:
        """Return the batch after a cursor, of about `count_max` records; None if there is none.

        The entry at the cursor is compared with that in the stream. If it differs or is missing,
        history has changed, and the batch begins the stream.

        Raises:
            NodeUnavailableError: The node of the shard does not answer.
            LedgerUnavailableError: Redis does not answer.
        """
        ...

    def fork(self, shard: int, cursor: Cursor, places: Iterable[Cursor]) -> Fork | None:
        """Return the fork that has lost the entry of a cursor, or None if there is none.

        An entry that was trimmed, and one of an earlier epoch, is not lost.

        Args:
            shard: The shard.
            cursor: A cursor of the shard.
            places: The ends of the batches before it, the newest first.

        Raises:
            LedgerUnavailableError: Redis does not answer.
        """
        ...

    def lacking(self, cursors: Mapping[int, Cursor]) -> Sequence[int]:
        """Return the shards whose stream lacks the entry of its cursor, though it was not trimmed.

        Shards that do not answer are left out.

        Raises:
            LedgerUnavailableError: Redis does not answer.
        """
        ...

    def wait(self, cursors: Mapping[int, Cursor | None], seconds_max: float) -> Sequence[int]:
        """Wait until a record follows a cursor; return the shards where one does.

        After `seconds_max` it returns no shards. It may miss records if history has changed, and
        those of nodes that do not answer.
        """
        ...

    def note_stored(self, shard: int, cursor: Cursor | None) -> int:
        """Note how far records are rows, and delete old stored ones.

        Call it after the commit, with a cursor of a batch that `read` returned. The entry at the
        cursor stays.

        Returns:
            The number of deleted entries.
        """
        ...

    def pending_count(self) -> int:
        """Return the number of pending records of all shards."""
        ...

    def identity_fields(self) -> Mapping[str, str]:
        """Return the identity of the ledger in Redis; empty if Redis was wiped."""
        ...

    def forget(self, user_ids: Iterable[UUID]) -> None:
        """Delete the live balances of users that were deleted in Postgres."""
        ...


@dataclass(frozen=True, slots=True)
class ShardRecords:
    """The numbers of records of a shard in an epoch: all, and stored ones."""

    epoch: int
    made: int
    stored: int

    def are_rows_of(self, then: "ShardRecords") -> bool:
        """Return whether all records of an earlier count are rows, or their epoch is over."""
        return self.epoch != then.epoch or self.stored >= then.made


class UserKeys(Protocol):
    """The keys of users in Redis."""

    def forget(self, user_ids: Iterable[UUID]) -> None:
        """Delete the live balances of users, so that they are not charged any more."""
        ...

    def records(self, user_ids: Sequence[UUID]) -> Mapping[UUID, ShardRecords]:
        """Return the numbers of records in the shard of each user."""
        ...

    def erase(self, user_ids: Sequence[UUID]) -> Iterator[int]:
        """Scan all keys in steps, and delete those of users.

        Returns:
            An iterator over the number of keys that each step deleted.
        """
        ...
