"""Records that are not yet known to be rows, as the worker meets them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from faregate.domain.transaction import CreditTransaction


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
        """Return records to store: unacknowledged ones that were read before, then new ones.

        Records that were written in one step are read together, so there may be a few more than
        `count_max`.
        """
        ...

    def acknowledge(self, shard: int, stream_ids: Sequence[str]) -> None:
        """Note that records are durable. Call it after the commit, never before."""
        ...

    def trim(self, shard: int) -> int:
        """Delete what is acknowledged and older than the window of retries; return how much."""
        ...

    def unacknowledged(self, shard: int) -> Iterable[StreamEntry]:
        """Iterate over every record that is not known to be durable, reading nothing away."""
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
