"""The options of a charge or a hold: all that its caller may say beside user and cost."""

from collections.abc import Mapping
from typing import TypedDict

from faregate.domain.idempotency import IdempotencyKey
from faregate.domain.policy import CreditPolicy, FailureMode, GateOptions
from faregate.domain.spend import NO_OPTIONS, HoldOptions, SpendOptions
from faregate.domain.transaction import CreditTransactionId

Metadata = Mapping[str, object]


class ChargeOptions(TypedDict, total=False):
    """The named arguments that `Gate.charge`, `hold` and `holding` have in common."""

    #: The tier whose policy applies; without it, the gate's `tier_of` is asked.
    tier: str | None
    #: The member or API key of the user whose requests the policy's limits by key count.
    limit_key: str
    #: Whether the policy's rate limits apply; False for more of a request that has passed.
    is_limited: bool
    #: The user's own name for the request. A retry with the same key is answered with the first
    #: decision, and `Decision.key_state` says whether it is to be served; `Gate.complete` it then.
    #: A refusal is not remembered. The settlement of a hold completes its request, and what is
    #: given back may be made again with the same key.
    idempotency_key: str | None
    #: What the request with that key is, such as method, path and a digest of its body; without
    #: it, its cost. The same key with another fingerprint is `KEY_REUSED`.
    fingerprint: str
    #: A UUIDv7 not older than a minute, where the caller may retry; without it, a new one.
    transaction_id: CreditTransactionId | None
    #: For people; "request" or "hold" if nothing is said.
    description: str | None
    #: For programs: a JSON object.
    metadata: Metadata | None
    #: Whether the request is served although no decision can be had in time; by default it is not.
    #: A request that is served so is `journaled`, and charged later by `faregate journal import`.
    #: Its idempotency key cannot be looked up, so a retry may be served twice; it is charged once.
    on_failure: FailureMode


def spend_options(
    given: ChargeOptions,
    policy: CreditPolicy,
    cost: int,
    options: GateOptions,
    hold: HoldOptions | None = None,
) -> SpendOptions:
    """Return the options of the spend that a call means under a policy.

    Raises:
        InvalidArgumentError: One is ill-formed.
    """
    if hold is None and not given and not policy.is_unlimited:
        return NO_OPTIONS
    metadata, key = given.get("metadata"), given.get("idempotency_key")
    name = "cost" if hold is None else "estimate"
    if policy.is_unlimited:
        metadata = {**(metadata or {}), name: cost}
    return SpendOptions(
        transaction_id=given.get("transaction_id"),
        description=given.get("description"),
        metadata=metadata,
        limit_key=given.get("limit_key", ""),
        is_limited=given.get("is_limited", True),
        key=None
        if key is None
        else IdempotencyKey(
            key=key,
            fingerprint=f"{name} {given.get('fingerprint') or cost}",
            lifetime_ms=options.idempotency_lifetime_ms,
            lease_ms=min(options.idempotency_lease_ms, options.idempotency_lifetime_ms),
            keys_max=options.idempotency_keys_max,
        ),
        hold=hold,
    )
