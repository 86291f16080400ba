"""Every key name in Redis. The hash tag stands before any user data, so that none can move it.

`lua/lib` names the keys that few requests have, by the same letters after the same base.
"""

from binascii import crc_hqx
from dataclasses import dataclass
from functools import cache
from uuid import UUID

from faregate.domain.transaction import CreditTransactionId

#: How many slots a cluster of Redis has.
SLOTS = 16_384


@dataclass(frozen=True, slots=True, eq=False)
class Shard:
    """A shard, and the names of its keys."""

    number: int
    #: What all of them begin with.
    base: bytes
    #: Its state: epoch, ordinals, times. Missing in a Redis that was wiped.
    state: bytes
    #: The stream of its records.
    stream: bytes
    #: Is there once a ledger that moved has given the shard up.
    left: bytes
    #: The sorted set of its open holds, by their expiry.
    holds: bytes
    #: What the keys of accounts begin with.
    accounts: bytes

    def account(self, user: bytes) -> bytes:
        """Return the key of a user's account."""
        return self.accounts + user

    def shadow(self, policy: bytes, user: bytes) -> bytes:
        """Return the key of a user's account under a policy that is only observed."""
        return self.base + b"w" + policy + user

    def shadow_counts(self, policy: bytes) -> bytes:
        """Return the hash of how often each verdict would have been given under a policy."""
        return self.base + b"c" + policy

    def deduct(self, deduct_id: CreditTransactionId) -> bytes:
        """Return the hash of what was given back of a deduct, and of its hold."""
        return self.base + b"d" + deduct_id.bytes

    def remembered(self, transaction_id: CreditTransactionId) -> bytes:
        """Return the key by which a transaction with an id that is not minted is known."""
        return self.base + b"i" + transaction_id.bytes

    def answers(self, deduct_id: CreditTransactionId) -> bytes:
        """Return the key of the times at which attempts with one id were told of its charge."""
        return self.base + b"a" + deduct_id.bytes

    def idempotency(self, user: bytes) -> tuple[bytes, bytes]:
        """Return the two hashes of a user's idempotency keys, which take turns."""
        return self.base + b"k0" + user, self.base + b"k1" + user

    def response(self, transaction_id: CreditTransactionId) -> bytes:
        """Return the response that is kept for retries of a request with an idempotency key."""
        return self.base + b"r" + transaction_id.bytes

    def last_alignment(self, user: bytes) -> bytes:
        """Return the key of the id of a user's last alignment."""
        return self.base + b"v" + user

    def limit(self, digest: bytes) -> bytes:
        """Return the state of a rate limit that has a key of its own."""
        return self.base + b"l" + digest


def shard_of(user_id: UUID, shard_count: int) -> int:
    """Return the shard of a user: the last 16 bits of its id, random in every UUID in use."""
    return (user_id.int & 0xFFFF) % shard_count


@cache
def shards(count: int) -> tuple[Shard, ...]:
    """Return all shards of a ledger.

    The tag of shard i of N is the smallest number whose slot lies in the i-th of N equal ranges,
    so that shards fall evenly on the servers of a cluster.
    """
    tags: dict[int, int] = {}
    number = 0
    while len(tags) < count:
        tags.setdefault(slot(str(number).encode()) * count // SLOTS, number)
        number += 1
    return tuple(_shard(shard, tags[shard]) for shard in range(count))


def shard_for(user_id: UUID, among: tuple[Shard, ...]) -> Shard:
    """Return the shard of a user, among all shards of a ledger."""
    return among[shard_of(user_id, len(among))]


def slot(tag: bytes) -> int:
    """Return the slot of all keys with a tag. The CRC16 of Redis is that of XMODEM."""
    return crc_hqx(tag, 0) % SLOTS


def account(user_id: UUID, shard_count: int) -> bytes:
    """Return the key of a user's account."""
    return shard_for(user_id, shards(shard_count)).account(user_id.bytes)


def ledger(shard_count: int) -> bytes:
    """Return the hash of what the ledger was created with."""
    return shards(shard_count)[0].base + b":ledger"


def _shard(number: int, tag: int) -> Shard:
    base = b"fg:{%d}" % tag
    names = (base + name for name in (b":s", b":tx", b":left", b":holds", b"u"))
    return Shard(number, base, *names)
