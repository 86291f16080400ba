"""Records that are not yet known to be rows, as the worker meets them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from faregate.domain.transaction import CreditTransaction


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamEntry:
    """One entry of a shard's stream as the worker reads it."""

    stream_id: str
    #: The bytes as they lie in the stream, for the dead letter of one that cannot be read.
    payload: bytes
    #: The transaction, or None where the payload cannot be read; `problem` then says why.
    transaction: CreditTransaction | None
    problem: str = ""


class TransactionStream(Protocol):
    """The records that are not yet known to be rows, one stream a shard. Implemented by Redis."""

    @property
    def shard_count(self) -> int:
        """The number of shards, numbered from 0."""
        ...

    def shards_pending(self) -> Sequence[int]:
        """Return the shards that hold records not yet acknowledged."""
        ...

    def read(self, shard: int, count_max: int) -> Sequence[StreamEntry]:
        """Return entries to store: this consumer's unacknowledged ones first, then new ones."""
        ...

    def acknowledge(self, shard: int, stream_ids: Sequence[str]) -> None:
        """Note that entries are durable. Call it after the commit, never before."""
        ...

    def trim(self, shard: int) -> int:
        """Delete acknowledged entries older than the window of retries; return how many."""
        ...

    def unacknowledged(self, shard: int) -> Iterable[StreamEntry]:
        """Iterate over every entry that is not known to be durable, reading nothing away."""
        ...

    def pending_count(self) -> int:
        """Return how many records are not acknowledged, over all shards."""
        ...

    def marks(self) -> Mapping[str, str]:
        """Return what Redis keeps of the identity of its ledger; empty if it was wiped."""
        ...

    def forget(self, user_ids: Iterable[UUID]) -> None:
        """Delete the live balances of users that Postgres knows to be gone."""
        ...
