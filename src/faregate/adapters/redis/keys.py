"""Every key name in Redis. The hash tag stands before any user data, so that none can move it."""

from hashlib import sha256
from uuid import UUID

from faregate.domain.request import Charge
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


def account(shard: int, user_id: UUID) -> tuple[str, str, str]:
    """Return the keys that every change of a balance needs: user, stream, epoch."""
    return user(shard, user_id), stream(shard), epoch(shard)


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
    name = f"{limit_name}\0{whose}"
    return f"{tag(shard)}:rate:{_digest(name)}"


def rates(shard: int, charge: Charge, prefix: str = "") -> tuple[str, ...]:
    """Return the states of all rate limits of a charge: those of its user, or of its limit key."""
    return tuple(
        rate(shard, f"{prefix}{limit.kind} {limit.name}", charge.whose(limit))
        for limit in charge.limits
    )


def shadow(shard: int, policy: str, user_id: UUID) -> str:
    """Return the shadow of a user under a policy that is only observed."""
    return f"{tag(shard)}:shadow:{_digest(policy)}:{user_id}"


def shadow_counts(shard: int, policy: str) -> str:
    """Return the hash of how often each verdict would have been given."""
    return f"{tag(shard)}:shadow-counts:{_digest(policy)}"


def idempotency(shard: int, user_id: UUID) -> tuple[str, str]:
    """Return the two hashes of a user's idempotency keys, which take turns."""
    return f"{tag(shard)}:idempotency:{user_id}:0", f"{tag(shard)}:idempotency:{user_id}:1"


def response(shard: int, transaction_id: CreditTransactionId) -> str:
    """Return the response that is kept for retries of a request with an idempotency key."""
    return f"{tag(shard)}:response:{transaction_id}"


def hold(shard: int, hold_id: CreditTransactionId) -> str:
    """Return the hash of a hold: what it took, when it expires, what became of it."""
    return f"{tag(shard)}:hold:{hold_id}"


def holds(shard: int) -> str:
    """Return the sorted set of a shard's open holds, by their expiry."""
    return f"{tag(shard)}:holds"


def ledger() -> str:
    """Return the hash of what the ledger was created with."""
    return f"{tag(0)}:ledger"


def _digest(text: str) -> str:
    return sha256(text.encode(errors="surrogatepass")).hexdigest()[:32]
