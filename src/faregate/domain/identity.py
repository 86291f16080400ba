"""The identity of a ledger."""

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from faregate.domain.errors import ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerIdentity:
    """The settings of a new ledger. Redis and Postgres must agree on them at every start."""

    #: Unique for this ledger.
    ledger_id: UUID
    shard_count: int
    starting_credits: int
    epoch: int
    #: Whether Redis was installed with this epoch. From then on an empty Redis is a lost one.
    installed: bool

    @property
    def identity_fields(self) -> dict[str, str]:
        """The fields of the identity in Redis, by their names."""
        return {
            "ledger_id": str(self.ledger_id),
            "epoch": str(self.epoch),
            "shard_count": str(self.shard_count),
            "starting_credits": str(self.starting_credits),
        }

    def require_shards(self, count: int) -> None:
        """Check that the settings have the right number of shards.

        Raises:
            ConfigurationError: They have another number.
        """
        if self.shard_count != count:
            raise ConfigurationError(
                f"the ledger has {self.shard_count} shards, the settings say {count}: correct"
                " FAREGATE_SHARD_COUNT"
            )

    def mismatch(self, identity_fields: Mapping[str, str]) -> str | None:
        """Return how the fields in Redis differ from this ledger; None if they agree."""
        if not identity_fields:
            return "Redis is empty: it was wiped, or FAREGATE_REDIS_URL names another one"
        wrong = [
            f"{name} is {identity_fields.get(name, 'missing')} in Redis and {field} in Postgres"
            for name, field in self.identity_fields.items()
            if identity_fields.get(name) != field
        ]
        return "; ".join(wrong) or None
