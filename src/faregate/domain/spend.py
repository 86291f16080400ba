"""A spend: the request for credits, from the middleware to the wire.

A charge is a hold that is settled at once, so both are one value: a charge has no `hold`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from uuid import UUID

from faregate.domain.durability import Durability
from faregate.domain.errors import InvalidArgumentError, TransactionIdError
from faregate.domain.idempotency import IdempotencyKey
from faregate.domain.limit import RateLimit
from faregate.domain.policy import CreditPolicy, OnExpiry
from faregate.domain.quick import quick_maker
from faregate.domain.texts import encode_description, encode_metadata
from faregate.domain.transaction import CreditTransactionId

#: The shortest lifetime of a hold, in milliseconds.
TTL_MS_MIN = 100
#: The longest lifetime of a hold, extensions included, in milliseconds.
TTL_MS_MAX = 86_400_000
#: The most open holds of a user.
OPEN_HOLDS_MAX = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldOptions:
    """The lifetime of a hold, and its end."""

    ttl_ms: int
    on_expiry: OnExpiry = OnExpiry.GIVE_BACK
    #: The most open holds of the user, this one included.
    open_max: int = OPEN_HOLDS_MAX

    def __post_init__(self) -> None:
        check_ttl(self.ttl_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpendOptions:
    """The rare options of a spend."""

    #: A UUIDv7 that the caller chose, by which its retries are recognised; None for a minted one.
    transaction_id: CreditTransactionId | None = None
    #: For people; None for "request", or "hold".
    description: str | None = None
    #: For programs: a JSON object.
    metadata: Mapping[str, object] | None = None
    #: The limit key, by which rate limits of `by="key"` count.
    limit_key: str = ""
    #: Whether the policy's rate limits apply.
    is_limited: bool = True
    key: IdempotencyKey | None = None
    #: For a cost that is known later; None for a charge.
    hold: HoldOptions | None = None
    #: How safe the spend is before it is answered; None for the durability of its policy.
    durability: Durability | None = None

    def __post_init__(self) -> None:
        if self.transaction_id is not None and self.transaction_id.time_ms is None:
            raise TransactionIdError("the id of a spend must be a UUIDv7, which tells its age")
        if self.description is not None:
            encode_description(self.description)
        if self.metadata is not None:
            encode_metadata(self.metadata)


NO_OPTIONS = SpendOptions()


@dataclass(frozen=True, slots=True)
class Spend:
    """A request to take credits from a user."""

    user_id: UUID
    #: The cost in credits; 0 for a user who is never refused, and for a peek.
    cost: int
    #: The policy that applies to the user.
    policy: CreditPolicy
    options: SpendOptions = NO_OPTIONS

    @property
    def is_recorded(self) -> bool:
        """Whether the spend appends a record.

        A cost of 0 is a peek, unless the policy never refuses.
        """
        return self.cost > 0 or self.policy.is_unlimited

    @property
    def limits(self) -> tuple[RateLimit, ...]:
        """The rate limits that are checked together with the credits, in their order."""
        return self.policy.limits if self.options.is_limited else ()

    @property
    def durability(self) -> Durability:
        """How safe the spend is before it is answered."""
        return self.options.durability or self.policy.durability

    @property
    def description(self) -> str:
        """The description of its record."""
        if self.options.description is not None:
            return self.options.description
        return "request" if self.options.hold is None else "hold"

    def counts_for(self, limit: RateLimit) -> str:
        """Return the name of the counter of a limit: the user, or a limit key of the user."""
        if limit.is_by_key and self.options.limit_key:
            return f"{self.user_id} key {self.options.limit_key}"
        return str(self.user_id)


#: Makes a spend from user id, cost, policy and options, by position.
spend_of: Callable[[UUID, int, CreditPolicy, SpendOptions], Spend] = quick_maker(Spend)


def check_ttl(ttl_ms: object) -> int:
    """Return the lifetime of a hold, in milliseconds, if it is within its bounds.

    Raises:
        InvalidArgumentError: The lifetime is outside its bounds.
    """
    is_whole = isinstance(ttl_ms, int) and not isinstance(ttl_ms, bool)
    if not is_whole or not TTL_MS_MIN <= ttl_ms <= TTL_MS_MAX:  # type: ignore[operator]
        raise InvalidArgumentError(
            f"a hold lasts from {TTL_MS_MIN} to {TTL_MS_MAX} milliseconds, not {ttl_ms!r}"
        )
    return ttl_ms  # type: ignore[return-value]
