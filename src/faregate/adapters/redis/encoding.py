"""Packs spends and their policies as `spend.lua` reads them."""

from dataclasses import dataclass
from hashlib import sha256
from typing import TypeAlias

from faregate.adapters.redis.layouts import (
    GIVEN,
    HOLD,
    KEY,
    LIMIT,
    LIMIT_KEYS,
    POLICY,
    RECORDED,
    RETRY,
    SHADOW,
    SPEND_HOLD,
    SPEND_KEY,
    SPEND_SHADOW,
    TEXT,
    TEXT_SIZE,
    TIME_MS_BYTES,
    TIME_US_BYTES,
)
from faregate.domain.attempt import Attempt, Phase
from faregate.domain.errors import ConfigurationError
from faregate.domain.idempotency import IdempotencyKey, SavedKey
from faregate.domain.limit import LimitKind, RateLimit
from faregate.domain.period import PeriodKind
from faregate.domain.policy import Allowance, CreditPolicy, OnExpiry
from faregate.domain.spend import NO_OPTIONS, HoldOptions, Spend
from faregate.domain.texts import encode_description, encode_metadata

#: A policy is packed once. Beyond this number all are packed again; an application has a few.
POLICIES_MAX = 4_096

_PERIODS = {PeriodKind.DAY: 1, PeriodKind.WEEK: 2, PeriodKind.MONTH: 3, PeriodKind.ROLLING: 4}
_GCRA_IN_ACCOUNT, _GCRA_WITH_KEY, _WINDOW_WITH_KEY = 1, 2, 3
_NAME_BYTES = 4
_KEY_BYTES = 16
_FINGERPRINT_BYTES = 8
#: A spend with one of these flags reads keys that do not show the writes of the same call. So a
#: call holds at most one such spend of a user.
ALONE = RETRY | GIVEN | KEY | LIMIT_KEYS


@dataclass(frozen=True, slots=True, eq=False)
class PackedPolicy:
    """A policy as the scripts read it."""

    #: A reference, so that no other policy gets the same `id()`.
    policy: CreditPolicy
    packed: bytes
    limits: tuple[RateLimit, ...]
    #: The limits that have Redis keys of their own.
    keyed_limits: tuple[RateLimit, ...]
    flags: int
    #: For a shadow policy.
    shadow_digest: bytes


#: A packed policy, and the flags and sections of a spend under it.
PackedSpend: TypeAlias = tuple[PackedPolicy, int, bytes]
_SENT_AGAIN = Phase.SENT_AGAIN


class SpendPacker:
    """Packs spends, and each policy once: with its limits, and without them."""

    def __init__(self) -> None:
        self._known: tuple[dict[int, PackedPolicy], dict[int, PackedPolicy]] = {}, {}

    def pack(self, attempt: Attempt) -> PackedSpend:
        """Pack the spend of an attempt, without its shard, its cost and its id.

        Raises:
            ConfigurationError: The names of two limits have the same digest.
        """
        spend = attempt.spend
        options = spend.options
        # Comparing policies would take longer than a decision, so objects are compared by identity.
        policy = self._known[options.is_limited].get(id(spend.policy)) or self._learn(spend)
        is_retry = attempt.phase is _SENT_AGAIN
        if options is NO_OPTIONS and not policy.flags and not is_retry:
            return policy, 0, b""
        return _pack_options(spend, policy, policy.flags | (RETRY if is_retry else 0))

    def _learn(self, spend: Spend) -> PackedPolicy:
        known, policy = self._known[spend.options.is_limited], spend.policy
        if len(known) >= POLICIES_MAX:
            known.clear()
        packed = known[id(policy)] = _pack_policy(policy, spend.limits)
        return packed


def _pack_options(spend: Spend, policy: PackedPolicy, flags: int) -> PackedSpend:
    options, sections = spend.options, []
    if options.transaction_id is not None:
        flags |= GIVEN
    if options.description is not None or options.metadata is not None:
        flags |= TEXT
        sections.append(_pack_text(spend))
    if options.key is not None:
        flags |= KEY
        sections.append(pack_idempotency_key(options.key))
    if options.hold is not None:
        flags |= HOLD
        sections.append(_pack_hold(options.hold))
    if flags & SHADOW:
        sections.append(SPEND_SHADOW.pack(spend.policy.starting_credits, policy.shadow_digest))
    sections.extend(_limit_key(spend, limit) for limit in policy.keyed_limits)
    return policy, flags, b"".join(sections)


def shadow_digest(policy_name: str) -> bytes:
    """Return the digest of a shadow policy's name, for its keys."""
    return _digest(policy_name, 8)


def pack_rules(allowance: Allowance | None, limits: tuple[RateLimit, ...] = ()) -> bytes:
    """Pack an allowance and rate limits as `lua/lib/policies.lua` reads them."""
    amount, rollover_max, period, length_ms = 0, 0, 0, 0
    if allowance is not None:
        amount, rollover_max = allowance.amount, allowance.rollover_max
        period, length_ms = _PERIODS[allowance.period.kind], allowance.period.length_ms
    length = length_ms.to_bytes(TIME_MS_BYTES)
    packed = POLICY.pack(amount, rollover_max, period, length, len(limits))
    return packed + b"".join(map(_pack_limit, limits))


def pack_idempotency_key(key: IdempotencyKey | SavedKey) -> bytes:
    """Pack an idempotency key."""
    return SPEND_KEY.pack(
        key.key_digest,
        key.fingerprint_digest[:_FINGERPRINT_BYTES],
        key.lifetime_ms.to_bytes(TIME_MS_BYTES),
        key.lease_ms.to_bytes(TIME_MS_BYTES),
        key.keys_max,
    )


def _pack_policy(policy: CreditPolicy, limits: tuple[RateLimit, ...]) -> PackedPolicy:
    digests = {_digest(limit.state_name, _NAME_BYTES) for limit in limits}
    if len(digests) < len(limits):
        raise ConfigurationError(
            f"two limits of policy {policy.name!r} have the same digest: rename one"
        )
    keyed = tuple(limit for limit in limits if _kind(limit) != _GCRA_IN_ACCOUNT)
    flags = LIMIT_KEYS if keyed else 0
    if policy.is_shadow:
        flags |= SHADOW
    if policy.is_unlimited:
        flags |= RECORDED
    return PackedPolicy(
        policy=policy,
        packed=pack_rules(policy.allowance, limits),
        limits=limits,
        keyed_limits=keyed,
        flags=flags,
        shadow_digest=shadow_digest(policy.name) if policy.is_shadow else b"",
    )


def _kind(limit: RateLimit) -> int:
    if limit.kind is LimitKind.WINDOW:
        return _WINDOW_WITH_KEY
    return _GCRA_WITH_KEY if limit.is_by_key else _GCRA_IN_ACCOUNT


def _pack_limit(limit: RateLimit) -> bytes:
    if limit.kind is LimitKind.WINDOW:
        size, span_us = limit.count, limit.period_ms * 1_000
    else:
        size, span_us = limit.burst_size, limit.interval_us
    name = _digest(limit.state_name, _NAME_BYTES)
    return LIMIT.pack(_kind(limit), name, size, span_us.to_bytes(TIME_US_BYTES))


def _limit_key(spend: Spend, limit: RateLimit) -> bytes:
    """Return the key of a limit. Its name is hashed, since an application may choose any text."""
    shadow = f"shadow {spend.policy.name}\0" if spend.policy.is_shadow else ""
    counted = f"{limit.kind} {limit.state_name}\0{spend.counts_for(limit)}"
    return _digest(shadow + counted, _KEY_BYTES)


def _pack_text(spend: Spend) -> bytes:
    description = encode_description(spend.description)
    metadata = encode_metadata(spend.options.metadata)
    sizes = TEXT_SIZE.pack(len(description)), TEXT_SIZE.pack(len(metadata))
    return b"".join((sizes[0], description, sizes[1], metadata))


def _pack_hold(hold: HoldOptions) -> bytes:
    return SPEND_HOLD.pack(hold.ttl_ms, hold.on_expiry is OnExpiry.KEEP, hold.open_max)


def _digest(text: str, size: int) -> bytes:
    return sha256(text.encode(errors="surrogatepass")).digest()[:size]
