"""What the caller of a charge or a hold may say, beside who is charged and how much."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypedDict
from uuid import UUID

from faregate.domain.errors import TransactionIdError
from faregate.domain.idempotency import IdempotencyKey
from faregate.domain.policy import CreditPolicy, FailureMode, GateOptions
from faregate.domain.request import Charge
from faregate.domain.transaction import CreditTransactionId

Metadata = Mapping[str, object]


class Terms(TypedDict, total=False):
    """The named arguments that `Gate.charge`, `hold` and `holding` have in common."""

    #: Whose policy holds, where the caller knows it; without it, `tier_of` is asked.
    tier: str | None
    #: Whose requests the policy's limits by key count, such as an API key. They are counted for
    #: each shard of users apart.
    limit_key: str
    #: Whether the policy's rate limits are looked at; False for more of a request that has passed.
    is_limited: bool
    #: The user's own name for the request. A retry with the same key is answered with the first
    #: decision, and `Decision.key_state` says whether it is to be served; `Gate.complete` it then.
    #: A refusal is not remembered. The settlement of a hold completes its request, and what is
    #: given back may be made again with the same key.
    idempotency_key: str | None
    #: What the request with that key is, such as method, path and a digest of its body; without
    #: it, what it costs. The same key with another one is `KEY_REUSED`.
    fingerprint: str
    #: A UUIDv7 not older than a minute, where the caller may retry; without it, a new one.
    transaction_id: CreditTransactionId | None
    #: What for, for people; "request" or "hold" if nothing is said.
    description: str
    #: What for, for programs: a JSON object.
    metadata: Metadata | None
    #: Whether it is served all the same where no decision can be had in time; not, if nothing is
    #: said. What is served so is `journaled`, and charged later by `faregate journal import`. Its
    #: idempotency key cannot be looked up, so a retry may be served twice; it is charged once.
    on_failure: FailureMode


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """All that the caller has said."""

    #: "cost" or "estimate": what the amount is called in metadata.
    amount_name: str
    user_id: UUID
    cost: int
    description: str
    tier: str | None = None
    limit_key: str = ""
    is_limited: bool = True
    idempotency_key: str | None = None
    fingerprint: str = ""
    transaction_id: CreditTransactionId | None = None
    on_failure: FailureMode = FailureMode.CLOSED
    metadata: Metadata | None = None

    @property
    def is_open(self) -> bool:
        """Whether it is served where no decision can be had."""
        return self.on_failure is FailureMode.OPEN

    def charge(self, policy: CreditPolicy, options: GateOptions, now_ms: int) -> Charge:
        """Return the charge that this means under a policy, with its id and its deadline.

        Raises:
            InvalidArgumentError: It cannot be charged under this policy, or at all.
        """
        if self.transaction_id is not None and self.transaction_id.time_ms is None:
            raise TransactionIdError("the id of a charge is a UUIDv7, so that its age is known")
        cost, metadata = policy.check_cost(self.cost), self.metadata
        if policy.is_unlimited:
            cost, metadata = 0, {**(metadata or {}), self.amount_name: cost}
        return Charge(
            user_id=self.user_id,
            transaction_id=self.transaction_id or CreditTransactionId.mint(now_ms),
            cost=cost,
            asked_at_ms=now_ms,
            deadline_ms=now_ms + options.decision_timeout_ms,
            description=self.description,
            metadata=metadata,
            fresh=self.transaction_id is None,
            allowance=policy.allowance,
            limits=policy.limits if self.is_limited else (),
            limit_key=self.limit_key,
            records_zero=policy.is_unlimited,
            key=self._key(options),
        )

    def _key(self, options: GateOptions) -> IdempotencyKey | None:
        if self.idempotency_key is None:
            return None
        return IdempotencyKey(
            key=self.idempotency_key,
            fingerprint=f"{self.amount_name} {self.fingerprint or self.cost}",
            lifetime_ms=options.key_lifetime_ms,
            lease_ms=min(options.key_lease_ms, options.key_lifetime_ms),
            keys_max=options.keys_max,
        )
