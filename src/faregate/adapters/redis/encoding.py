"""The rules of a charge, as the scripts read them."""

from collections.abc import Sequence

from faregate.domain.idempotency import IdempotencyKey, KeptKey
from faregate.domain.limit import RateLimit
from faregate.domain.policy import Allowance


def encode_allowance(allowance: Allowance | None) -> tuple[int, int, str]:
    """Encode an allowance as the three arguments that `lua/lib/allowance.lua` reads."""
    if allowance is None:
        return 0, 0, "day"
    period = allowance.period
    name = f"{period.kind}:{period.length_ms}" if period.length_ms else str(period.kind)
    return allowance.amount, allowance.rollover_max, name


def encode_limits(limits: Sequence[RateLimit]) -> tuple[str | int, ...]:
    """Encode rate limits as `lua/lib/limits.lua` reads them: how many, and four arguments each."""
    arguments: list[str | int] = [len(limits)]
    for limit in limits:
        arguments += [str(limit.kind), limit.count, limit.period_ms, limit.burst_size]
    return tuple(arguments)


def encode_key(key: IdempotencyKey | KeptKey | None) -> tuple[bytes | int, ...]:
    """Encode an idempotency key as `lua/lib/idempotency.lua` reads it; none is nothing."""
    if key is None:
        return ()
    bounds = key.lifetime_ms, key.lease_ms, key.keys_max
    return (key.key_digest, key.fingerprint_digest, *bounds)
