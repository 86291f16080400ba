"""Redis and Postgres of different ledgers are never mixed."""

from collections.abc import Iterator
from dataclasses import replace
from uuid import UUID

import pytest

from faregate.adapters.memory.ledger import MemoryLedger
from faregate.adapters.memory.store import MemoryStore
from faregate.adapters.memory.stream import MemoryStream
from faregate.domain.errors import ConfigurationError
from faregate.domain.identity import LedgerIdentity
from faregate.ports import Cursor, Fork, Stored
from faregate_worker.drain import require_same_ledger

IDENTITY = LedgerIdentity(
    ledger_id=UUID(int=1), shard_count=16, starting_credits=3, epoch=1, installed=True
)


class Redis(MemoryStream):
    """A stream of one ledger."""

    shard_count = 16

    def identity_fields(self) -> dict[str, str]:
        return IDENTITY.identity_fields


class Postgres(MemoryStore):
    """Rows of a ledger of one's choice."""

    def __init__(self, identity: LedgerIdentity) -> None:
        super().__init__()
        self.of = identity

    def identity(self) -> LedgerIdentity:  # type: ignore[override]
        return self.of

    def places(self, shard: int, before: Cursor) -> Iterator[Cursor]:
        raise NotImplementedError

    def rewind(self, fork: Fork) -> Stored:
        raise NotImplementedError


def test_a_drain_moves_nothing_between_ledgers() -> None:
    """Another id, epoch, shard count or number of starting credits: each is named."""
    stream = Redis(MemoryLedger())
    require_same_ledger(stream, Postgres(IDENTITY))
    others = {
        "ledger_id": replace(IDENTITY, ledger_id=UUID(int=2)),
        "epoch": replace(IDENTITY, epoch=9),
        "starting_credits": replace(IDENTITY, starting_credits=50),
        "shards": replace(IDENTITY, shard_count=4),
    }
    for name, other in others.items():
        with pytest.raises(ConfigurationError, match=name):
            require_same_ledger(stream, Postgres(other))


def test_an_empty_redis_is_of_no_ledger() -> None:
    """It was wiped, or is not the right one."""
    assert "empty" in (IDENTITY.mismatch({}) or "")
    assert IDENTITY.mismatch(IDENTITY.identity_fields) is None
