"""Records that are not yet known to be rows, as the worker meets them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from faregate.domain.transaction import CreditTransaction, TransactionType


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamEntry:
    """One record of a shard's stream as the worker reads it."""

    #: Its address: the position of the entry that holds it, and its index there.
    stream_id: str
    #: Its bytes, as an entry of its own: for the dead letter of one that cannot be read.
    payload: bytes
    #: The transaction, or None where the payload cannot be read; `problem` then says why.
    transaction: CreditTransaction | None
    problem: str = ""
    #: Its number in its shard, in its epoch; 0 where that cannot be read.
    ordinal: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """As much of a record in a stream as is compared with rows."""

    #: Its address: the position of the entry that holds it, and its index there.
    stream_id: str
    id: UUID
    user_id: UUID
    amount: int
    type: TransactionType
    sequence: int
    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """How far the records of a shard are rows: the newest batch that was stored of it."""

    #: The number of the batch: 1, 2, 3, ... in each shard.
    number: int
    #: The Redis history in which the rest of this holds.
    epoch: int
    #: The last entry of the batch: its position, and the SHA-256 of its bytes as Redis held them.
    position: str
    digest: bytes
    #: The number of its last record in the shard.
    ordinal: int


class Batch(Protocol):
    """Some entries of a shard, one after another, to be stored together. It ends with a whole one.

    A batch is read after a cursor, and stored only while that is still the newest one.
    """

    @property
    def shard(self) -> int:
        """Whose stream it is of."""
        ...

    @property
    def after(self) -> Cursor | None:
        """The cursor that was the newest one when this was read; None where there was none."""
        ...

    @property
    def is_from_start(self) -> bool:
        """Whether it begins the stream, because no entry of the stream is that of the cursor."""
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
        """The number of its first record; more than that of its end where it has no numbers."""
        ...

    @property
    def count(self) -> int:
        """How many records it says that it holds."""
        ...

    @property
    def lines(self) -> bytes | None:
        """The records as lines, as `ROW_COLUMNS` says; None where one cannot be a plain row."""
        ...

    def records(self) -> Sequence[StreamEntry]:
        """Read all records, those included that cannot be read."""
        ...

    def head(self, count_max: int) -> "Batch":
        """Return a batch of its first entries with so many records; of one entry at least."""
        ...


#: The fields of a line of a batch: the place of the record in it, from 0, then those of its row.
#: Fields are parted by tabs and escaped as in the text form of COPY in Postgres.
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
    """The records that are not yet known to be rows, one stream a shard. Implemented by Redis."""

    @property
    def shard_count(self) -> int:
        """The number of shards, numbered from 0."""
        ...

    def shards_pending(self) -> Sequence[int]:
        """Return the shards that hold records not known to be rows."""
        ...

    def read(self, shard: int, cursor: Cursor | None, count_max: int) -> Batch | None:
        """Return what follows the cursor, about `count_max` records; None if there is nothing.

        The entry at the cursor is compared with that of the stream. Where it is another one, or
        gone, history has changed, and the batch begins with the stream.
        """
        ...

    def wait(self, cursors: Mapping[int, Cursor | None], seconds_max: float) -> Sequence[int]:
        """Wait until there is something behind a cursor; return the shards where there is.

        It only wakes; where history has changed it may not. After `seconds_max` there are none.
        """
        ...

    def note_stored(self, shard: int, cursor: Cursor | None) -> int:
        """Note how far records are rows, and delete those that have been for long enough.

        Call it after the commit, with a cursor that `read` has met. The entry at the cursor stays.

        Returns:
            How many entries were deleted.
        """
        ...

    def pending_count(self) -> int:
        """Return how many records are not known to be rows, over all shards."""
        ...

    def identity_fields(self) -> Mapping[str, str]:
        """Return the identity of the ledger in Redis; empty if Redis was wiped."""
        ...

    def forget(self, user_ids: Iterable[UUID]) -> None:
        """Delete the live balances of users that Postgres knows to be gone."""
        ...


@dataclass(frozen=True, slots=True)
class ShardRecords:
    """How many records a shard has made in an epoch, and how many of them are rows."""

    epoch: int
    made: int
    stored: int

    def are_rows_of(self, then: "ShardRecords") -> bool:
        """Whether all records are rows that there were then, or their epoch is over."""
        return self.epoch != then.epoch or self.stored >= then.made


class UserKeys(Protocol):
    """All that the ledger holds of users beside their records. Implemented by Redis."""

    def forget(self, user_ids: Iterable[UUID]) -> None:
        """Delete the live balances of users, so that they are charged no more."""
        ...

    def records(self, user_ids: Sequence[UUID]) -> Mapping[UUID, ShardRecords]:
        """Return the numbers of records in the shard of each user."""
        ...

    def erase(self, user_ids: Sequence[UUID]) -> Iterator[int]:
        """Look through all keys, a part at each step, and delete those of users.

        Returns:
            An iterator over how many keys each step has deleted.
        """
        ...
