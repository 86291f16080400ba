"""What decisions say is left of each rate limit: on Redis as on the memory adapter."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from clocks import Clock, RedisClock, use_test_clock
from faregate.adapters.memory.holds import MemoryHoldLedger
from faregate.adapters.memory.shadows import MemoryShadows
from faregate.adapters.redis.holds import RedisHoldLedger
from faregate.adapters.redis.runner import ScriptRunner
from faregate.adapters.redis.shadows import RedisShadows
from faregate.domain.decision import Decision, Verdict
from faregate.domain.hold import HoldRequest
from faregate.domain.idempotency import IdempotencyKey
from faregate.domain.identity import LedgerIdentity
from faregate.domain.limit import LimitKind, LimitState, RateLimit
from faregate.domain.request import Charge
from faregate.domain.shadow import Observation
from faregate.domain.transaction import CreditTransactionId
from faregate.domain.user import User
from faregate.ports import HoldLedger, Shadows

IDENTITY = LedgerIdentity(
    ledger_id=UUID(int=1), shard_count=1, starting_credits=5, epoch=7, installed=False
)
MINUTE_MS = 60_000
CREDITS = 50
#: Three at once, and then one each 20 s.
STEADY = RateLimit(name="steady", count=3, period_ms=MINUTE_MS)
#: One each 20 s, and never two at once.
PACED = RateLimit(name="paced", count=3, period_ms=MINUTE_MS, burst=1)
WINDOW = RateLimit(name="window", count=2, period_ms=MINUTE_MS, kind=LimitKind.WINDOW)
#: Its interval is no whole number of microseconds, and its burst exceeds its count.
UNEVEN = RateLimit(name="uneven", count=7, period_ms=3 * MINUTE_MS, burst=9)

ALLOWED = Verdict.ALLOWED
LIMITED = Verdict.RATE_LIMITED
POOR = Verdict.OUT_OF_CREDITS


@dataclass(frozen=True, slots=True)
class Step:
    """A request, some time after the one before, and what must be left of each limit after it."""

    limits: tuple[RateLimit, ...]
    #: For each limit: how many requests may come, and in how many milliseconds one more may.
    left: list[tuple[int, int]]
    after_ms: int = 0
    cost: int = 1
    verdict: Verdict = ALLOWED


SCENARIOS: dict[str, list[Step]] = {
    "of a steady rate, one more may come when the next interval is over": [
        Step((STEADY,), [(2, 20_000)]),
        Step((STEADY,), [(1, 20_000)]),
        Step((STEADY,), [(0, 20_000)]),
        Step((STEADY,), [(0, 15_000)], after_ms=5_000, verdict=LIMITED),
        Step((STEADY,), [(0, 20_000)], after_ms=15_000),
        Step((STEADY,), [(0, 1)], after_ms=19_999, verdict=LIMITED),
        Step((STEADY,), [(1, 20_000)], after_ms=20_001),
    ],
    "where all may come, there is nothing to wait for": [
        Step((STEADY, WINDOW), [(2, 20_000), (1, 60_000)]),
        Step((STEADY, WINDOW), [(3, 0), (2, 0)], after_ms=60_000, cost=CREDITS, verdict=POOR),
    ],
    "a burst of one leaves nothing until the next": [
        Step((PACED,), [(0, 20_000)]),
        Step((PACED,), [(0, 20_000)], after_ms=20_000),
        Step((PACED,), [(0, 20_000)], after_ms=90_000),
    ],
    "of a window, one more may come when the oldest leaves it": [
        Step((WINDOW,), [(1, 60_000)]),
        Step((WINDOW,), [(0, 30_000)], after_ms=30_000),
        Step((WINDOW,), [(0, 10_000)], after_ms=20_000, verdict=LIMITED),
        Step((WINDOW,), [(0, 30_000)], after_ms=10_000),
    ],
    "a refusal tells of all limits, and takes from none": [
        Step((STEADY, WINDOW), [(2, 20_000), (1, 60_000)]),
        Step((STEADY, WINDOW), [(1, 20_000), (0, 60_000)]),
        Step((WINDOW, STEADY), [(0, 60_000), (1, 20_000)], verdict=LIMITED),
        Step((STEADY, WINDOW), [(1, 19_000), (0, 59_000)], after_ms=1_000, verdict=LIMITED),
        Step((STEADY,), [(1, 19_000)], cost=CREDITS, verdict=POOR),
    ],
    "a policy that allows less from now on has nothing left": [
        *[Step((STEADY,), [(2 - n, 20_000)]) for n in range(3)],
        Step((PACED,), [(0, 20_000)]),
    ],
    "no limits, nothing to tell": [Step((), [])],
}


@dataclass(slots=True)
class Player:
    """Asks one implementation for one user."""

    ledger: HoldLedger
    shadows: Shadows
    clock: Clock
    user_id: UUID = field(default_factory=uuid4)

    def request(self, step: Step, key: str | None = None) -> Charge:
        now_ms = self.clock()
        return Charge(
            user_id=self.user_id,
            transaction_id=CreditTransactionId.mint(now_ms),
            cost=step.cost,
            asked_at_ms=now_ms,
            deadline_ms=now_ms + 1_000,
            description="request",
            fresh=True,
            limits=step.limits,
            key=None if key is None else IdempotencyKey(key=key),
        )

    async def charge(self, step: Step) -> Decision:
        self.clock.advance(step.after_ms)
        return await self.ledger.charge(self.request(step))

    async def hold(self, step: Step) -> Decision:
        self.clock.advance(step.after_ms)
        request = HoldRequest(charge=self.request(step), ttl_ms=86_400_000)
        return (await self.ledger.hold(request)).decision

    async def observe(self, step: Step) -> Decision:
        self.clock.advance(step.after_ms)
        return await self.shadows.observe(
            Observation(charge=self.request(step), policy="tried", starting_credits=CREDITS)
        )


@pytest.fixture(autouse=True)
def _test_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scripts whose time moves when a test says so."""
    use_test_clock(monkeypatch)


@asynccontextmanager
async def player_on(kind: str, url: str) -> AsyncIterator[Player]:
    """Play on one of the implementations, for a user with credits."""
    if kind == "memory":
        clock = Clock()
        player = Player(MemoryHoldLedger(now_ms=clock), MemoryShadows(now_ms=clock), clock)
        await _start(player)
        yield player
        return
    with Redis.from_url(url) as client:
        client.flushall()
        runner = ScriptRunner.from_url(url, 2.0)
        ledger = RedisHoldLedger(runner, shard_count=1, stream_length_max=100_000)
        shadows = RedisShadows(runner, shard_count=1, timeout_s=2.0)
        player = Player(ledger, shadows, RedisClock(client))
        try:
            await _start(player)
            yield player
        finally:
            await ledger.aclose()


async def _start(player: Player) -> None:
    await player.ledger.attach(IDENTITY)
    user = User(id=player.user_id, credits=CREDITS, sequence=1, epoch=IDENTITY.epoch)
    assert await player.ledger.install(user)


def way(name: str, player: Player) -> Callable[[Step], Awaitable[Decision]]:
    """One of the three ways to ask."""
    ways = {"charge": player.charge, "hold": player.hold, "observe": player.observe}
    return ways[name]


@pytest.mark.parametrize("kind", ["memory", "redis"])
@pytest.mark.parametrize("asked", ["charge", "hold", "observe"])
@pytest.mark.parametrize("name", SCENARIOS)
async def test_decisions_tell_what_is_left_of_each_limit(
    name: str, asked: str, kind: str, ledger_redis: str
) -> None:
    """After an allowed request the limits have been taken from, after a refusal they have not."""
    async with player_on(kind, ledger_redis) as player:
        ask = way(asked, player)
        for number, step in enumerate(SCENARIOS[name], start=1):
            decision = await ask(step)
            # What lies in open holds may come back, so that a hold is told to come again.
            held = Verdict.CREDITS_HELD if (asked, step.verdict) == ("hold", POOR) else step.verdict
            assert (decision.shadow or decision.verdict) in {step.verdict, held}, f"step {number}"
            assert decision.limits == tuple(
                LimitState.of(limit, *left)
                for limit, left in zip(step.limits, step.left, strict=True)
            ), f"step {number}"
            if step.verdict is LIMITED:
                first = next(state for state in decision.limits if not state.remaining)
                told = (decision.limited_by, decision.retry_after_ms)
                assert told == (first.name, first.resets_in_ms), f"step {number}"


@pytest.mark.parametrize("kind", ["memory", "redis"])
async def test_where_no_limit_was_looked_at_none_is_told(kind: str, ledger_redis: str) -> None:
    """A retry, a known key and an unknown user are answered before the limits."""
    step = Step((STEADY, WINDOW), [])
    async with player_on(kind, ledger_redis) as player:
        charge = player.request(step, key="one")
        assert len((await player.ledger.charge(charge)).limits) == 2
        again = await player.ledger.charge(charge)
        assert (again.repeated, again.limits) == (True, ())
        by_key = await player.ledger.charge(player.request(step, key="one"))
        assert (by_key.repeated, by_key.limits) == (True, ())
        hold = HoldRequest(charge=player.request(step, key="two"), ttl_ms=1_000)
        assert len((await player.ledger.hold(hold)).decision.limits) == 2
        assert (await player.ledger.hold(hold)).decision.limits == ()
        player.user_id = uuid4()
        stranger = await player.ledger.charge(player.request(step))
        assert (stranger.verdict, stranger.limits) == (Verdict.UNKNOWN_USER, ())


@pytest.mark.parametrize("kind", ["memory", "redis"])
async def test_a_peek_tells_what_is_left_and_takes_nothing(kind: str, ledger_redis: str) -> None:
    """However often one looks."""
    async with player_on(kind, ledger_redis) as player:
        await player.charge(Step((STEADY,), []))
        for _ in range(2):
            peek = await player.charge(Step((STEADY,), [], cost=0))
            assert peek.limits == (LimitState.of(STEADY, 2, 20_000),)


STEPS = st.builds(
    Step,
    st.sampled_from([(STEADY,), (UNEVEN, WINDOW), (WINDOW, PACED, UNEVEN), ()]),
    st.just([]),
    after_ms=st.sampled_from([0, 1, 7, 999, 5_003, 20_000, 25_714, 60_000, 240_000]),
    cost=st.sampled_from([0, 1, CREDITS]),
)


@settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(asked=st.sampled_from(["charge", "observe"]), steps=st.lists(STEPS, max_size=20))
def test_random_requests_are_told_alike(ledger_redis: str, asked: str, steps: list[Step]) -> None:
    """And what a decision says of a limit is what the next request finds."""
    asyncio.run(_compare(ledger_redis, asked, steps))


async def _compare(url: str, asked: str, steps: list[Step]) -> None:
    async with player_on("memory", url) as specified, player_on("redis", url) as played:
        played.clock.advance(specified.clock() - played.clock())
        told: tuple[LimitState, ...] = ()
        for step in steps:
            expected = await way(asked, specified)(step)
            decision = await way(asked, played)(step)
            assert decision.limits == expected.limits, step
            assert (decision.limited_by, decision.retry_after_ms) == (
                expected.limited_by,
                expected.retry_after_ms,
            ), step
            _check_promise(told, decision, step)
            told = decision.limits


def _check_promise(told: tuple[LimitState, ...], decision: Decision, step: Step) -> None:
    """Until `resets_in_ms` have passed, no more than `remaining` may come; and so many may."""
    before = {state.name: state for state in told}
    for state in decision.limits:
        earlier = before.get(state.name)
        if earlier is None:
            continue
        assert state.remaining >= earlier.remaining - 1, step
        if step.after_ms < earlier.resets_in_ms:
            assert state.remaining <= earlier.remaining, step
            assert earlier.remaining or LIMITED in {decision.verdict, decision.shadow}, step
