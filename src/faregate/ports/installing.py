"""The port by which operators create, close and give up a ledger."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from faregate.domain.identity import LedgerIdentity
from faregate.domain.user import User


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfinished:
    """The work that is left in a Redis from which a ledger moves."""

    #: Shards that are not given up yet.
    shards: int = 0
    #: Pending records, and open holds.
    records: int = 0
    holds: int = 0

    @property
    def is_any(self) -> bool:
        """Whether records must be stored or holds must end."""
        return bool(self.records or self.holds)


class Installer(Protocol):
    """Creates, closes and gives up the ledger in a Redis, for operators."""

    def create(self, identity: LedgerIdentity) -> bool:
        """Create a ledger in an empty Redis; return False if it is not empty.

        If this is killed in between, there is no identity yet, and the next call continues.
        """
        ...

    def install(self, users: Sequence[User]) -> int:
        """Install durable balances, and return how many users were missing.

        Raises:
            LedgerError: Redis has another epoch, or does not answer. Some users may be installed.
        """
        ...

    def close_shards(self) -> Unfinished:
        """Close all shards to new changes; refunds, voids and ends of holds still pass."""
        ...

    def open_shards(self) -> Unfinished:
        """Open closed shards again."""
        ...

    def give_up(self) -> Unfinished:
        """Delete the state of closed shards without work; return the work left in others."""
        ...
