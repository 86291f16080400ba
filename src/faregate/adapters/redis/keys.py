"""Every key name in Redis. The hash tag stands before any user data, so that none can move it."""

from hashlib import sha256
from uuid import UUID

from faregate.domain.transaction import CreditTransactionId

#: The consumer group of the drain. Its consumers have stable names, so none is ever left behind.
GROUP = "drain"
CONSUMER = "drain"


def shard_of(user_id: UUID, shard_count: int) -> int:
    """Return the shard of a user: the last 16 bits of its id, random in every UUID in use."""
    return (user_id.int & 0xFFFF) % shard_count


def tag(shard: int) -> str:
    """Return the hash tag that keeps a shard's keys in one slot of a cluster."""
    return f"fg:{{s{shard:02d}}}"


def user(shard: int, user_id: UUID) -> str:
    """Return the hash of a user: credits, sequence, latest record."""
    return f"{tag(shard)}:u:{user_id}"


def stream(shard: int) -> str:
    """Return the stream of a shard's records."""
    return f"{tag(shard)}:tx"


def epoch(shard: int) -> str:
    """Return the key whose absence means that Redis was wiped."""
    return f"{tag(shard)}:epoch"


def refunds(shard: int, deduct_id: CreditTransactionId) -> str:
    """Return the hash of what has been given back of a deduct."""
    return f"{tag(shard)}:refunds:{deduct_id}"


def receipt(shard: int, transaction_id: CreditTransactionId) -> str:
    """Return the hash by which the retry of a credit is known."""
    return f"{tag(shard)}:receipt:{transaction_id}"


def rate(shard: int, limit_name: str, whose: str) -> str:
    """Return the state of a rate limit. What an application chose is hashed: it may be anything."""
    digest = sha256(f"{limit_name}\0{whose}".encode()).hexdigest()[:32]
    return f"{tag(shard)}:rate:{digest}"


def hold(shard: int, hold_id: CreditTransactionId) -> str:
    """Return the hash of a hold: what it took, when it expires, what became of it."""
    return f"{tag(shard)}:hold:{hold_id}"


def holds(shard: int) -> str:
    """Return the sorted set of a shard's open holds, by their expiry."""
    return f"{tag(shard)}:holds"


def ledger() -> str:
    """Return the hash of what the ledger was created with."""
    return f"{tag(0)}:ledger"
