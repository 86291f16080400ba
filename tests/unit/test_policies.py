"""Policies, tiers and usage: what holds for whom."""

from collections.abc import Callable
from uuid import UUID, uuid4

import pytest

from asgi_client import answers, call
from clocks import Clock
from faregate import (
    Allowance,
    CachedTiers,
    CreditPolicy,
    Gate,
    LimitKind,
    Period,
    PeriodKind,
    PolicySet,
    RateLimit,
    Verdict,
)
from faregate.adapters.memory.ledger import MemoryLedger
from faregate.adapters.memory.store import MemoryStore
from faregate.asgi import FaregateMiddleware
from faregate.domain.errors import ConfigurationError, InvalidArgumentError, UnknownTierError
from faregate.domain.policy import GateOptions

HOUR = Period(kind=PeriodKind.ROLLING, length_ms=3_600_000)
FREE = CreditPolicy(
    name="free",
    allowance=Allowance(amount=10, period=HOUR),
    limits=(RateLimit(name="burst", count=2, period_ms=1_000),),
)
STAFF = CreditPolicy(name="staff", is_unlimited=True)
POLICIES = PolicySet(tiers={"free": FREE, "staff": STAFF}, default_tier="free")


class Tiers:
    """A resolver that counts how often it was asked."""

    def __init__(self) -> None:
        self.tier: str | None = None
        self.asked = 0

    async def __call__(self, user_id: UUID) -> str | None:
        self.asked += 1
        return self.tier


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(clock: Clock) -> MemoryLedger:
    return MemoryLedger(now_ms=clock)


@pytest.fixture
def tiers() -> Tiers:
    return Tiers()


@pytest.fixture
def gate(ledger: MemoryLedger, tiers: Tiers) -> Gate:
    return Gate(ledger, MemoryStore(), POLICIES, GateOptions(provision_users=True), tiers)


async def test_a_tier_chooses_the_policy_and_a_change_holds_at_once(
    gate: Gate, tiers: Tiers
) -> None:
    """Unless the resolver's answers are remembered, the next request knows."""
    user_id = uuid4()
    assert (await gate.charge(user_id, cost=14)).verdict is Verdict.OUT_OF_CREDITS
    tiers.tier = "staff"
    decision = await gate.charge(user_id, cost=14)
    assert (decision.verdict, decision.policy, decision.credits) == (Verdict.ALLOWED, STAFF, 3)


async def test_requests_of_an_unlimited_user_are_recorded_with_their_cost(
    gate: Gate, ledger: MemoryLedger
) -> None:
    """As a deduct of nothing; the cost is in its metadata."""
    await gate.charge(uuid4(), tier="staff", cost=14, metadata={"path": "/"})
    (record,) = ledger.pending.values()
    assert (record.amount, record.metadata) == (0, {"path": "/", "cost": 14})


async def test_usage_shows_used_and_remaining_credits(gate: Gate, clock: Clock) -> None:
    """In the words of the policy, also when a period has begun that no charge has seen."""
    user_id = uuid4()
    await gate.charge(user_id, cost=7)
    usage = await gate.usage(user_id)
    assert usage is not None
    assert (usage.policy, usage.limit, usage.used, usage.remaining) == ("free", 10, 7, 6)
    assert (usage.period_start_ms, usage.period_end_ms) == (clock.ms, clock.ms + 3_600_000)
    clock.advance(3_600_000)
    renewed = await gate.usage(user_id)
    assert renewed is not None
    assert (renewed.used, renewed.remaining) == (0, 13)
    staff = await gate.usage(user_id, tier="staff")
    assert staff is not None
    assert (staff.is_unlimited, staff.limit, staff.used) == (True, None, None)
    assert await Gate(MemoryLedger(), MemoryStore(), POLICIES).usage(uuid4()) is None


async def test_a_user_is_warned_when_little_is_left_and_nothing_is_bought() -> None:
    """At 80 % of the allowance, unless bought credits follow."""
    policy = CreditPolicy(starting_credits=0, allowance=Allowance(amount=10, period=HOUR))
    options = GateOptions(provision_users=True)
    gate = Gate(MemoryLedger(), MemoryStore(starting_credits=0), policy, options)
    user_id = uuid4()
    warnings = []
    for cost in (7, 1, 1):
        await gate.charge(user_id, cost=cost)
        usage = await gate.usage(user_id)
        warnings.append(usage is not None and usage.is_warning)
    await gate.grant(user_id, 5)
    usage = await gate.usage(user_id)
    assert [*warnings, usage is not None and usage.is_warning] == [False, True, True, False]


async def test_tiers_are_remembered_for_their_lifetime_and_no_longer() -> None:
    """And within a bound; what is forgotten is asked again."""
    seconds = 0.0
    tiers = Tiers()
    cached = CachedTiers(tiers, lifetime_s=30, users_max=2, clock=lambda: seconds)
    first, second, third = uuid4(), uuid4(), uuid4()
    assert [await cached(first), await cached(first), tiers.asked] == [None, None, 1]
    tiers.tier = "paid"
    assert await cached(first) is None
    seconds = 30.0
    assert [await cached(first), tiers.asked] == ["paid", 2]
    cached.forget(first)
    assert [await cached(first), tiers.asked] == ["paid", 3]
    for user_id in (second, third, first):
        await cached(user_id)
    assert tiers.asked == 6, "three users were remembered where two may be"


async def test_a_rate_limit_is_a_429_that_says_when_to_come_back(gate: Gate) -> None:
    """With the name of the limit, and a whole number of seconds."""
    user_id = uuid4()
    app = FaregateMiddleware(answers(200, b"ok"), gate, lambda _: user_id)
    statuses = [(await call(app)).status for _ in range(3)]
    refused = await call(app)
    assert statuses == [200, 200, 429]
    assert refused.header(b"retry-after") == b"1"
    assert b'"code": "rate_limited"' in refused.body
    assert b'"violated-policies": ["burst"]' in refused.body


async def test_out_of_credits_is_a_429_where_waiting_helps(gate: Gate) -> None:
    """A new period brings enough, so the client is told when; the fields say it too."""
    user_id = uuid4()
    await gate.charge(user_id, cost=13)
    app = FaregateMiddleware(answers(200, b"ok"), gate, lambda _: user_id)
    refused = await call(app)
    assert (refused.status, refused.header(b"retry-after")) == (429, b"3600")
    assert refused.header(b"ratelimit") == b'"free";r=0;t=3600, "burst";r=1'
    assert refused.header(b"ratelimit-policy") == b'"free";q=10;w=3600, "burst";q=2;w=1'


async def test_a_tier_that_does_not_exist_is_an_error_of_its_request(gate: Gate) -> None:
    """It names the tiers that there are; requests of other tiers are decided."""
    for ask in (gate.charge, gate.balance, gate.usage):
        with pytest.raises(UnknownTierError, match="'gold'; known: free, staff"):
            await ask(uuid4(), tier="gold")
    with pytest.raises(UnknownTierError):
        await gate.hold(uuid4(), 1, tier="gold")
    assert (await gate.charge(uuid4(), tier="staff")).allowed


CONTRADICTIONS: list[Callable[[], object]] = [
    lambda: Allowance(amount=0, period=HOUR),
    lambda: Allowance(amount=1, period=HOUR, rollover_max=-1),
    lambda: Period(kind=PeriodKind.ROLLING),
    lambda: Period(kind=PeriodKind.DAY, length_ms=5),
    lambda: RateLimit(name="", count=1, period_ms=1),
    lambda: RateLimit(name="a", count=0, period_ms=1),
    lambda: RateLimit(name="a", count=1, period_ms=0),
    lambda: RateLimit(name="a", count=True, period_ms=1),
    lambda: RateLimit(name="a", count=2_000, period_ms=1),
    lambda: RateLimit(name="a", count=20_000, period_ms=60_000, kind=LimitKind.WINDOW),
    lambda: CreditPolicy(name=""),
    lambda: CreditPolicy(warning_percent=0),
    lambda: CreditPolicy(limits=FREE.limits * 2),
    lambda: CreditPolicy(limits=FREE.limits, is_unlimited=True),
    lambda: PolicySet(tiers={}),
    lambda: PolicySet(
        tiers={"a": CreditPolicy(), "b": CreditPolicy(starting_credits=1)}, default_tier="a"
    ),
    lambda: POLICIES.of("gold"),
]


@pytest.mark.parametrize("number", range(len(CONTRADICTIONS)))
def test_a_policy_that_contradicts_itself_is_refused(number: int) -> None:
    """At the start, not at the first request."""
    with pytest.raises((ConfigurationError, InvalidArgumentError)):
        CONTRADICTIONS[number]()
