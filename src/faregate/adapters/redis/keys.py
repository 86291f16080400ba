"""The names of all keys in Redis. The hash tag precedes user data, which thus cannot change it.

`lua/lib` makes the names of rarely used keys, by the same letters after the same base.
"""

from binascii import crc_hqx
from dataclasses import dataclass
from functools import cache
from uuid import UUID

from faregate.domain.transaction import CreditTransactionId

#: The number of slots of a Redis cluster.
SLOTS = 16_384


@dataclass(frozen=True, slots=True, eq=False)
class Shard:
    """A shard, and the names of its keys."""

    number: int
    #: The common prefix.
    base: bytes
    #: The state of the shard: epoch, ordinals, times. Missing if Redis was wiped.
    state: bytes
    #: The stream of its records.
    stream: bytes
    #: Exists after a move has given the shard up.
    left: bytes
    #: The sorted set of its open holds, by their expiry.
    holds: bytes
    #: The prefix of the keys of accounts.
    accounts: bytes

    def account(self, user: bytes) -> bytes:
        """Return the key of a user's account."""
        return self.accounts + user

    def shadow(self, policy: bytes, user: bytes) -> bytes:
        """Return the key of a user's account under a shadow policy."""
        return self.base + b"w" + policy + user

    def shadow_counts(self, policy: bytes) -> bytes:
        """Return the hash of how often each verdict would have been given under a policy."""
        return self.base + b"c" + policy

    def deduct(self, deduct_id: CreditTransactionId) -> bytes:
        """Return the hash of a deduct: its refunds and its hold."""
        return self.base + b"d" + deduct_id.bytes

    def remembered(self, transaction_id: CreditTransactionId) -> bytes:
        """Return the key of a transaction whose id was not minted."""
        return self.base + b"i" + transaction_id.bytes

    def answers(self, deduct_id: CreditTransactionId) -> bytes:
        """Return the key of the times of answers to attempts with one id."""
        return self.base + b"a" + deduct_id.bytes

    def idempotency(self, user: bytes) -> tuple[bytes, bytes]:
        """Return the two hashes of a user's idempotency keys, which alternate."""
        return self.base + b"k0" + user, self.base + b"k1" + user

    def response(self, transaction_id: CreditTransactionId) -> bytes:
        """Return the key of a response that is saved for retries."""
        return self.base + b"r" + transaction_id.bytes

    def last_alignment(self, user: bytes) -> bytes:
        """Return the key of a user's last alignment."""
        return self.base + b"v" + user

    def limit(self, digest: bytes) -> bytes:
        """Return the key of a rate limit."""
        return self.base + b"l" + digest


def shard_of(user_id: UUID, shard_count: int) -> int:
    """Return the shard of a user, by the last 16 bits of its id, random in common UUIDs."""
    return (user_id.int & 0xFFFF) % shard_count


@cache
def shards(count: int) -> tuple[Shard, ...]:
    """Return all shards of a ledger.

    The tag of shard i of N is the smallest number whose slot lies in the i-th of N equal ranges. So
    shards spread evenly over the servers of a cluster.
    """
    tags: dict[int, int] = {}
    number = 0
    while len(tags) < count:
        tags.setdefault(slot(str(number).encode()) * count // SLOTS, number)
        number += 1
    return tuple(_shard(shard, tags[shard]) for shard in range(count))


def shard_for(user_id: UUID, among: tuple[Shard, ...]) -> Shard:
    """Return the shard of a user among all shards."""
    return among[shard_of(user_id, len(among))]


def slot(tag: bytes) -> int:
    """Return the slot of all keys with a tag: CRC-16/XMODEM of the tag."""
    return crc_hqx(tag, 0) % SLOTS


def account(user_id: UUID, shard_count: int) -> bytes:
    """Return the key of a user's account."""
    return shard_for(user_id, shards(shard_count)).account(user_id.bytes)


def ledger(shard_count: int) -> bytes:
    """Return the hash of the identity of the ledger."""
    return shards(shard_count)[0].base + b":ledger"


def _shard(number: int, tag: int) -> Shard:
    base = b"fg:{%d}" % tag
    names = (base + name for name in (b":s", b":tx", b":left", b":holds", b"u"))
    return Shard(number, base, *names)
