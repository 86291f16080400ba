"""The options of a charge or a hold, besides user and cost."""

from collections.abc import Mapping
from typing import TypedDict

from faregate.domain.durability import Durability
from faregate.domain.idempotency import IdempotencyKey
from faregate.domain.policy import CreditPolicy, FailureMode, GateOptions
from faregate.domain.spend import NO_OPTIONS, HoldOptions, SpendOptions
from faregate.domain.transaction import CreditTransactionId

Metadata = Mapping[str, object]


class ChargeOptions(TypedDict, total=False):
    """The common keyword arguments of `Gate.charge`, `hold` and `holding`."""

    #: The tier whose policy applies; without it, that of the gate's `tier_of`.
    tier: str | None
    #: The limit key, such as a member or an API key of the user, for the policy's limits by key.
    limit_key: str
    #: Whether the policy's rate limits apply; False for a further charge of the same request.
    is_limited: bool
    #: The user's name for the request. A retry with the same key gets the first decision, and
    #: `Decision.key_state` says whether to serve it; call `Gate.complete` afterwards. A refusal is
    #: not remembered. The settlement of a hold completes its request. A request that was given back
    #: can be made again with the same key.
    idempotency_key: str | None
    #: The content of the request, such as method, path and a digest of its body; by default its
    #: cost. The same key with another fingerprint is `KEY_REUSED`.
    fingerprint: str
    #: A UUIDv7 not older than a minute, if the caller may retry; without it, a new one.
    transaction_id: CreditTransactionId | None
    #: For people; by default "request" or "hold".
    description: str | None
    #: For programs: a JSON object.
    metadata: Metadata | None
    #: Whether the request is served if it cannot be decided in time; by default it is not. Such a
    #: request is `journaled`, and charged later by `faregate journal import`. Its idempotency key
    #: cannot be looked up, so a retry may be served twice; it is charged once.
    on_failure: FailureMode
    #: How safe the charge is before it is answered; by default as the policy says.
    durability: Durability | None


class CreditOptions(TypedDict, total=False):
    """The common keyword arguments of `Gate.grant` and `adjust`."""

    #: The cause, such as the id of a payment: a webhook that is delivered twice grants once, even
    #: much later. Each user has keys of its own.
    idempotency_key: str | None
    #: The same as an id of the caller; give only one of the two.
    transaction_id: CreditTransactionId | None
    #: The reason, for programs: a JSON object.
    metadata: Metadata | None
    #: How safe the change is before it is answered; by default in the memory of one server.
    durability: Durability


def spend_options(
    given: ChargeOptions,
    policy: CreditPolicy,
    cost: int,
    options: GateOptions,
    hold: HoldOptions | None = None,
) -> SpendOptions:
    """Return the options of a spend, from those of a call and its policy.

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
        durability=given.get("durability"),
    )
