"""The packed values of Redis as objects: for the worker, for operators, and for tests."""

from dataclasses import dataclass
from typing import Self
from uuid import UUID

from faregate.adapters.redis.layouts import (
    ACCOUNT,
    ARRIVAL,
    CLOSED,
    STATE,
    TIME_MS_BYTES,
    TIME_US_BYTES,
    VERSION,
    whole,
)
from faregate.domain.errors import LedgerCorruptError
from faregate.domain.user import User


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardState:
    """The state of a shard."""

    epoch: int
    #: The number of the last record, from 1 in each epoch, and that of the last stored one.
    ordinal: int = 0
    stored: int = 0
    #: The time of its last record.
    last_us: int = 0
    #: The time from which its stream is complete.
    oldest_ms: int = 0
    #: Whether the shard is closed, since its ledger moves to another Redis.
    is_closed: bool = False

    @property
    def pending_count(self) -> int:
        """The number of pending records."""
        return self.ordinal - self.stored

    def pack(self) -> bytes:
        """Return the value as it lies in Redis."""
        return STATE.pack(
            CLOSED if self.is_closed else VERSION,
            self.epoch,
            self.ordinal.to_bytes(TIME_MS_BYTES),
            self.stored.to_bytes(TIME_MS_BYTES),
            self.last_us.to_bytes(TIME_US_BYTES),
            self.oldest_ms.to_bytes(TIME_MS_BYTES),
        )

    @classmethod
    def unpack(cls, packed: bytes) -> Self:
        """Read a packed value.

        Raises:
            LedgerCorruptError: It was overwritten, or is of another version.
        """
        if len(packed) != STATE.size or packed[0] not in {VERSION, CLOSED}:
            raise LedgerCorruptError("a shard cannot be read: rebuild the ledger from Postgres")
        version, epoch, ordinal, stored, last_us, oldest_ms = STATE.unpack(packed)
        return cls(
            epoch=epoch,
            ordinal=whole(ordinal),
            stored=whole(stored),
            last_us=whole(last_us),
            oldest_ms=whole(oldest_ms),
            is_closed=version == CLOSED,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """The account of a user."""

    credits: int
    sequence: int
    #: The time of the newest id that a retry, a void or a caller has named.
    named_ms: int = 0
    allowance_left: int = 0
    #: When the period of the allowance began; 0 if there is none.
    period_ms: int = 0
    #: The credits in open holds, and the number of these holds.
    held: int = 0
    holds_count: int = 0
    #: For each rate limit of the user: the digest of its name, and its theoretical arrival time in
    #: microseconds.
    arrivals: tuple[tuple[bytes, int], ...] = ()

    def pack(self) -> bytes:
        """Return the value as it lies in Redis."""
        account = ACCOUNT.pack(
            VERSION,
            0,
            self.credits,
            self.sequence,
            self.named_ms.to_bytes(TIME_MS_BYTES),
            self.allowance_left,
            self.period_ms.to_bytes(TIME_MS_BYTES),
            self.held.to_bytes(TIME_MS_BYTES),
            self.holds_count,
        )
        arrivals = (
            ARRIVAL.pack(digest, us.to_bytes(TIME_US_BYTES)) for digest, us in self.arrivals
        )
        return account + b"".join(arrivals)

    @classmethod
    def unpack(cls, packed: bytes) -> Self:
        """Read a packed value.

        Raises:
            LedgerCorruptError: It was overwritten, or is of another version.
        """
        rest = packed[ACCOUNT.size :]
        is_known = len(packed) >= ACCOUNT.size and packed[:2] == bytes((VERSION, 0))
        if not is_known or len(rest) % ARRIVAL.size:
            raise LedgerCorruptError("an account cannot be read: run `faregate repair`")
        _, _, credits_, sequence, named, allowance, period, held, count = ACCOUNT.unpack_from(
            packed
        )
        return cls(
            credits=credits_,
            sequence=sequence,
            named_ms=whole(named),
            allowance_left=allowance,
            period_ms=whole(period),
            held=whole(held),
            holds_count=count,
            arrivals=tuple((digest, whole(us)) for digest, us in ARRIVAL.iter_unpack(rest)),
        )

    def user(self, user_id: UUID, epoch: int) -> User:
        """Return the user of the account."""
        return User(
            id=user_id,
            credits=self.credits,
            sequence=self.sequence,
            epoch=epoch,
            allowance_left=self.allowance_left,
            period_start_ms=self.period_ms or None,
            held=self.held,
        )
