"""Decisions as a gate makes them, for tests of what clients are told."""

from typing import Any
from uuid import UUID

from faregate.domain.decision import Decision, Verdict
from faregate.domain.idempotency import KeyState
from faregate.domain.limit import LimitKind, LimitState, RateLimit
from faregate.domain.period import Period, PeriodKind
from faregate.domain.policy import Allowance, CreditPolicy
from faregate.domain.transaction import CreditTransactionId

#: A moment, in Unix milliseconds: 2026-11-23T10:00:00.250Z.
NOW_MS = 1_795_428_000_250
DAY_MS = 86_400_000
#: The next 00:00 UTC.
MIDNIGHT_MS = 1_795_478_400_000

BURST = RateLimit(name="burst", count=10, period_ms=1_000)
MINUTE = RateLimit(name="a minute", count=100, period_ms=60_000, kind=LimitKind.WINDOW)
#: Starting credits that never come back.
ONCE = CreditPolicy()
#: A hundred credits each day, and two limits beside.
DAILY = CreditPolicy(
    name="daily",
    allowance=Allowance(amount=100, period=Period(kind=PeriodKind.DAY)),
    limits=(BURST, MINUTE),
)


def decision(verdict: Verdict = Verdict.ALLOWED, **rest: Any) -> Decision:
    """A decision on a request that costs 1, with 2 credits left, under `policy` or `ONCE`."""
    rest.setdefault("policy", ONCE)
    rest.setdefault("decided_at_ms", NOW_MS)
    rest.setdefault("amount", -1)
    rest.setdefault("credits", 2)
    return Decision(
        verdict=verdict,
        user_id=UUID(int=1),
        transaction_id=CreditTransactionId(UUID(int=2)),
        **rest,
    )


def states(burst: tuple[int, int], minute: tuple[int, int]) -> tuple[LimitState, ...]:
    """What is left of the limits of `DAILY`, and in how many milliseconds there is more."""
    return LimitState.of(BURST, *burst), LimitState.of(MINUTE, *minute)


#: Every answer of a gate for which a request is not served.
REFUSALS: dict[str, Decision] = {
    "no credits, and none to come": decision(Verdict.OUT_OF_CREDITS, amount=-9),
    "no credits until midnight": decision(
        Verdict.OUT_OF_CREDITS,
        policy=DAILY,
        amount=-3,
        resets_at_ms=MIDNIGHT_MS,
        limits=states((4, 900), (40, 59_999)),
    ),
    "more than a day gives": decision(
        Verdict.OUT_OF_CREDITS,
        policy=DAILY,
        amount=-101,
        allowance_left=2,
        resets_at_ms=MIDNIGHT_MS,
    ),
    "a limit refuses": decision(
        Verdict.RATE_LIMITED,
        policy=DAILY,
        limited_by="burst",
        retry_after_ms=100,
        resets_at_ms=MIDNIGHT_MS,
        limits=states((0, 100), (40, 30_000)),
    ),
    "two limits refuse": decision(
        Verdict.RATE_LIMITED,
        policy=DAILY,
        limited_by="burst",
        retry_after_ms=100,
        resets_at_ms=MIDNIGHT_MS,
        limits=states((0, 100), (0, 30_000)),
    ),
    "credits are held": decision(
        Verdict.CREDITS_HELD,
        policy=DAILY,
        amount=-9,
        resets_at_ms=MIDNIGHT_MS,
        limits=states((4, 900), (40, 59_999)),
    ),
    "too many holds": decision(Verdict.TOO_MANY_HOLDS, policy=DAILY, resets_at_ms=MIDNIGHT_MS),
    "too many keys": decision(Verdict.TOO_MANY_KEYS, policy=DAILY, resets_at_ms=MIDNIGHT_MS),
    "nobody knows the user": decision(Verdict.UNKNOWN_USER, credits=0),
    "given back": decision(Verdict.VOIDED),
    "a full stream": decision(Verdict.BACKLOG, policy=DAILY, resets_at_ms=MIDNIGHT_MS),
    "another request's key": decision(Verdict.KEY_REUSED),
    "a key in flight": decision(repeated=True, key_state=KeyState.IN_FLIGHT),
    "a key that is done": decision(repeated=True, key_state=KeyState.DONE),
    "overloaded": decision(
        Verdict.OVERLOADED, policy=DAILY, credits=0, retry_after_ms=1_400, decided_at_ms=0
    ),
    "no verdict on a request": decision(Verdict.UNKNOWN_HOLD),
}
