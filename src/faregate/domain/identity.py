"""What makes a ledger this one and no other."""

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from faregate.domain.errors import ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerIdentity:
    """What a ledger was created with; Redis and Postgres must agree on it at every start."""

    #: Tells this ledger from any other.
    ledger_id: UUID
    shard_count: int
    starting_credits: int
    epoch: int
    #: Whether Redis has been given this epoch. From then on an empty Redis is a lost one.
    installed: bool

    @property
    def marks(self) -> dict[str, str]:
        """What Redis keeps of it."""
        return {
            "ledger_id": str(self.ledger_id),
            "epoch": str(self.epoch),
            "shard_count": str(self.shard_count),
            "starting_credits": str(self.starting_credits),
        }

    def require_shards(self, count: int) -> None:
        """Make sure that the settings have the right number of shards.

        Raises:
            ConfigurationError: They have another one.
        """
        if self.shard_count != count:
            raise ConfigurationError(
                f"the ledger has {self.shard_count} shards, the settings say {count}: correct"
                " FAREGATE_SHARD_COUNT"
            )

    def mismatch(self, marks: Mapping[str, str]) -> str | None:
        """Say in what Redis, by the marks it keeps, is not of this ledger; None if it is."""
        if not marks:
            return "Redis is empty: it was wiped, or is not the one of this ledger"
        wrong = [
            f"{name} is {marks.get(name, 'missing')} in Redis and {mark} in Postgres"
            for name, mark in self.marks.items()
            if marks.get(name) != mark
        ]
        return "; ".join(wrong) or None
