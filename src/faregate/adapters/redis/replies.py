"""Reads the one reply of a call to `spend.lua`, and turns statuses into decisions and errors."""

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias
from uuid import UUID

from faregate.adapters.redis.layouts import (
    NO_TIME,
    NOT_CHECKED,
    REPLY,
    REPLY_HOLD,
    REPLY_KEY,
    REPLY_LIMIT,
    REPLY_SHARD,
    REPLY_SPEND,
    VERSION,
    whole,
)
from faregate.domain.attempt import AttemptError, Event
from faregate.domain.decision import Decision, Verdict
from faregate.domain.errors import (
    AmountError,
    FaregateError,
    InvalidArgumentError,
    LedgerCorruptError,
    LedgerUnavailableError,
    LedgerUninitialisedError,
    TransactionConflictError,
    TransactionIdError,
    UnresolvedError,
)
from faregate.domain.idempotency import KeyState
from faregate.domain.limit import LimitState, RateLimit, limit_state_of
from faregate.domain.transaction import CreditTransactionId, transaction_id_of

#: The statuses in the order of their numbers, from 1. A test compares them with `spend.lua`.
STATUSES = (
    *("allowed", "repeated", "uninitialised", "corrupt", "unknown_user", "ahead", "key_reused"),
    *("voided", "stale", "unresolved", "conflict", "late", "backlog", "too_many_keys"),
    *("too_many_holds", "rate_limited", "out_of_credits", "credits_held", "out_of_range"),
    "invalid",
)
REPEATED = STATUSES.index("repeated") + 1

_KNOWN = {verdict.value: verdict for verdict in Verdict} | {"repeated": Verdict.ALLOWED}
#: The verdict of each status number; None for an error or an unknown number.
VERDICTS: tuple[Verdict | None, ...] = (
    None,
    *(_KNOWN.get(status) for status in STATUSES),
    *[None] * (255 - len(STATUSES)),
)
_KEY_STATES = (None, KeyState.NEW, KeyState.IN_FLIGHT, KeyState.TAKEN_OVER, KeyState.DONE)
_NO_ID = bytes(16)

_ERRORS: dict[str, Callable[[str], FaregateError]] = {
    "uninitialised": lambda _: LedgerUninitialisedError(
        "Redis was wiped, or its ledger moves to another Redis: it must be rebuilt"
    ),
    "corrupt": lambda about: LedgerCorruptError(
        f"a key that {about} needs was overwritten, or is of a newer version"
    ),
    "ahead": lambda about: AttemptError(Event.AHEAD, f"{about} is ahead of the clock of Redis"),
    "late": lambda about: AttemptError(Event.LATE, f"{about} reached Redis after its deadline"),
    "stale": lambda about: TransactionIdError(
        f"{about} is outside the window in which a retry is known: use a new id"
    ),
    "unresolved": lambda _: UnresolvedError("too many recent records to recognise a retry"),
    "conflict": lambda about: TransactionConflictError(f"{about} is known with other content"),
    "out_of_range": lambda about: AmountError(f"{about} would take the balance out of its range"),
    "invalid": lambda about: InvalidArgumentError(f"{about} is ill-formed"),
}


def error_of(status: str, about: str) -> FaregateError:
    """Return the error of a status.

    Args:
        status: The status, such as `conflict`.
        about: Which request it answers, such as `spend <id>`.
    """
    make = _ERRORS.get(status)
    if make is None:
        return LedgerUnavailableError(f"Redis answered {status!r} to {about}: update faregate")
    return make(about)


def read_decision(
    reply: list[Any], user_id: UUID, transaction_id: CreditTransactionId, amount: int
) -> Decision:
    """Read the reply of a script about one user: {status, credits, sequence, now, address, ...}.

    Raises:
        FaregateError: The status is that of an error, not of a verdict.
    """
    status, credits_, sequence, now_us, address, allowance_left = reply[:6]
    if status not in _KNOWN:
        raise error_of(status, f"transaction {transaction_id}")
    return Decision(
        verdict=_KNOWN[status],
        user_id=user_id,
        transaction_id=transaction_id,
        amount=amount,
        credits=credits_,
        sequence=sequence,
        repeated=status == "repeated",
        position=address.decode(),
        allowance_left=allowance_left,
        decided_at_ms=now_us // 1_000,
    )


#: The details of few spends: the states of limits; for an idempotency key its state, and id and
#: amount of the first spend with it; the expiry of a hold, in Unix milliseconds.
Details: TypeAlias = tuple[
    tuple[LimitState, ...], KeyState | None, CreditTransactionId | None, int, int
]
NO_DETAILS: Details = (), None, None, 0, 0
#: The answer to a spend: the fields of `REPLY_SPEND` as a tuple, for speed.
SpendFields: TypeAlias = tuple[int, int, int, int, int, bytes, int, int, int]


class CallReply:
    """The reply of a call, split into its parts.

    Raises:
        struct.error: The reply is ill-formed.
    """

    __slots__ = ("_packed", "_spends_at", "addresses", "details_at", "times_us")

    def __init__(self, packed: bytes, spends_count: int) -> None:
        version, shards_count = REPLY.unpack_from(packed)
        if version != VERSION:
            raise LedgerUnavailableError(f"Redis replied in version {version}: update faregate")
        self._packed = packed
        self._spends_at = REPLY.size + shards_count * REPLY_SHARD.size
        #: The position of the first details.
        self.details_at = self._spends_at + spends_count * REPLY_SPEND.size
        shards = list(REPLY_SHARD.iter_unpack(packed[REPLY.size : self._spends_at]))
        #: The time of each shard in microseconds.
        self.times_us = [whole(now) for now, _, _ in shards]
        #: For each shard: the beginning of the addresses of its new records; empty if there are
        #: none.
        self.addresses = [f"{whole(ms)}-{n}/" if ms != NO_TIME else "" for _, ms, n in shards]

    def spends(self) -> Iterator[SpendFields]:
        """Iterate over the answers to the spends."""
        fields: Iterator[SpendFields] = REPLY_SPEND.iter_unpack(
            self._packed[self._spends_at : self.details_at]
        )
        return fields


def address_of(packed: bytes, place: int) -> tuple[int, int] | None:
    """Return the ms and the number of the entry that a call wrote in a shard; None for none.

    It reads nothing else of the reply.
    """
    _, ms, n = REPLY_SHARD.unpack_from(packed, REPLY.size + place * REPLY_SHARD.size)
    return None if ms == NO_TIME else (whole(ms), n)


def read_details(
    packed: bytes, limits: tuple[RateLimit, ...], *, has_idempotency_key: bool, has_hold: bool
) -> Details:
    """Read the details of one spend."""
    at = len(limits) * REPLY_LIMIT.size
    states = read_limits(packed[:at], limits) if at else ()
    key_state, first_id, first_amount = None, None, 0
    if has_idempotency_key:
        state, identity, first_amount = REPLY_KEY.unpack_from(packed, at)
        at += REPLY_KEY.size
        key_state = _KEY_STATES[state]
        first_id = None if identity == _NO_ID else transaction_id_of(identity)
    expires_at_ms = whole(REPLY_HOLD.unpack_from(packed, at)[0]) if has_hold else 0
    return states, key_state, first_id, first_amount, expires_at_ms


def read_limits(packed: bytes, limits: tuple[RateLimit, ...]) -> tuple[LimitState, ...]:
    """Read the states of rate limits that were checked."""
    # A list, since a generator takes twice as long.
    states = [
        limit_state_of(limit.name, limit.count, limit.period_ms, remaining, wait_ms)
        for limit, (remaining, wait_ms) in zip(limits, REPLY_LIMIT.iter_unpack(packed), strict=True)
        if remaining != NOT_CHECKED
    ]
    return tuple(states)
