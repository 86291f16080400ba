"""The names of all keys in Redis. The hash tag precedes user data, which thus cannot change it.

`lua/lib` makes the names of rarely used keys, by the same letters after the same base.
"""

from binascii import crc_hqx
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from uuid import UUID

from faregate.domain.transaction import CreditTransactionId

#: The number of slots of a Redis cluster.
SLOTS = 16_384
#: The largest number of shards of a ledger.
COUNT_MAX = 100


@dataclass(frozen=True, slots=True, eq=False)
class Shard:
    """A shard, and the names of its keys."""

    number: int
    #: The slot of all of its keys.
    slot: int
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
    #: The hash of the reports of gates about answers that Redis has lost.
    lost: bytes
    #: The prefix of the keys of accounts.
    accounts: bytes

    @property
    def ledger(self) -> bytes:
        """The hash of the identity of the ledger. That of shard 0 counts."""
        return self.base + b":ledger"

    @property
    def touched(self) -> bytes:
        """A key that is written for a moment, so that a server has something to confirm."""
        return self.base + b":touched"

    @property
    def guard(self) -> bytes:
        """A key that never exists. In a cluster each call of a script declares it.

        While a slot is being moved key by key, the server then refuses the call as a whole, instead
        of failing inside it.
        """
        return self.base + b":none"

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

    The slot of shard i of N is the middle of the i-th of N equal ranges. So a cluster whose
    primaries have equal ranges has the same number of shards on each of them, within one, for any
    number of primaries.
    """
    slots = [(2 * number + 1) * SLOTS // (2 * count) for number in range(count)]
    tags = _tags(slots)
    return tuple(_shard(number, tags[slot]) for number, slot in enumerate(slots))


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
    return shards(shard_count)[0].ledger


def _tags(slots: Sequence[int]) -> Mapping[int, int]:
    """Return a tag for each slot: the smallest number from 1,000 on.

    The CRC of digits and three more is that of the digits and three zero bytes, xor that of the
    three. So one look answers for a thousand numbers, of which a hundred slots would take ninety.
    """
    last_three: dict[int, int] = {}
    for number in range(1_000):
        last_three.setdefault(slot(b"%03d" % number), number)
    tags: dict[int, int] = {}
    first = 1
    while len(tags) < len(slots):
        before = slot(b"%d\0\0\0" % first)
        for one in slots:
            if one not in tags and before ^ one in last_three:
                tags[one] = first * 1_000 + last_three[before ^ one]
        first += 1
    return tags


def _shard(number: int, tag: int) -> Shard:
    base = b"fg:{%d}" % tag
    names = (base + name for name in (b":s", b":tx", b":left", b":holds", b":lost", b"u"))
    return Shard(number, slot(b"%d" % tag), base, *names)
