"""What decisions say is left of each rate limit: on Redis as on the memory adapter."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from faregate.domain.decision import Verdict
from faregate.domain.limit import LimitKind, LimitState, RateLimit
from spec import steps
from spec.driver import Driver, Played
from spec.stage import KINDS, Stage, staged
from spec.steps import STARTING_CREDITS, Step, key

pytestmark = pytest.mark.redis

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
#: The ways to ask.
WAYS: dict[str, Callable[..., Step]] = {
    "charge": steps.charge,
    "hold": steps.hold,
    "observe": steps.observe,
}


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, some time after the one before, and what must be left of each limit after it."""

    limits: tuple[RateLimit, ...]
    #: For each limit: how many requests may come, and in how many milliseconds one more may.
    left: list[tuple[int, int]]
    after_ms: int = 0
    cost: int = 1
    verdict: Verdict = ALLOWED


SCENARIOS: dict[str, list[Asked]] = {
    "of a steady rate, one more may come when the next interval is over": [
        Asked((STEADY,), [(2, 20_000)]),
        Asked((STEADY,), [(1, 20_000)]),
        Asked((STEADY,), [(0, 20_000)]),
        Asked((STEADY,), [(0, 15_000)], after_ms=5_000, verdict=LIMITED),
        Asked((STEADY,), [(0, 20_000)], after_ms=15_000),
        Asked((STEADY,), [(0, 1)], after_ms=19_999, verdict=LIMITED),
        Asked((STEADY,), [(1, 20_000)], after_ms=20_001),
    ],
    "where all may come, there is nothing to wait for": [
        Asked((STEADY, WINDOW), [(2, 20_000), (1, 60_000)]),
        Asked((STEADY, WINDOW), [(3, 0), (2, 0)], after_ms=60_000, cost=CREDITS, verdict=POOR),
    ],
    "a burst of one leaves nothing until the next": [
        Asked((PACED,), [(0, 20_000)]),
        Asked((PACED,), [(0, 20_000)], after_ms=20_000),
        Asked((PACED,), [(0, 20_000)], after_ms=90_000),
    ],
    "of a window, one more may come when the oldest leaves it": [
        Asked((WINDOW,), [(1, 60_000)]),
        Asked((WINDOW,), [(0, 30_000)], after_ms=30_000),
        Asked((WINDOW,), [(0, 10_000)], after_ms=20_000, verdict=LIMITED),
        Asked((WINDOW,), [(0, 30_000)], after_ms=10_000),
    ],
    "a refusal tells of all limits, and takes from none": [
        Asked((STEADY, WINDOW), [(2, 20_000), (1, 60_000)]),
        Asked((STEADY, WINDOW), [(1, 20_000), (0, 60_000)]),
        Asked((WINDOW, STEADY), [(0, 60_000), (1, 20_000)], verdict=LIMITED),
        Asked((STEADY, WINDOW), [(1, 19_000), (0, 59_000)], after_ms=1_000, verdict=LIMITED),
        Asked((STEADY,), [(1, 19_000)], cost=CREDITS, verdict=POOR),
    ],
    "a policy that allows less from now on has nothing left": [
        *[Asked((STEADY,), [(2 - n, 20_000)]) for n in range(3)],
        Asked((PACED,), [(0, 20_000)]),
    ],
    "no limits, nothing to tell": [Asked((), [])],
}


@pytest.fixture(scope="module")
def stage(redis_url: str) -> Iterator[Stage]:
    with staged(redis_url) as opened:
        yield opened


class Asker:
    """Asks one backend for a user with credits, real ones and observed ones."""

    def __init__(self, stage: Stage, kind: str) -> None:
        self._stage = stage
        self._backend = stage.backend(kind)
        stage.loop.run(self._backend.start())
        self._driver = Driver(self._backend)
        self._count = 0
        self.play(steps.add("more", CREDITS - STARTING_CREDITS))
        self.play(steps.correct(CREDITS - STARTING_CREDITS))

    def play(self, step: Step) -> Played:
        return self._stage.loop.run(self._driver.play(step))

    def ask(self, way: str, asked: Asked) -> Played:
        self._count += 1
        self.play(steps.wait(asked.after_ms))
        return self.play(WAYS[way](f"{self._count}", asked.cost, limits=asked.limits))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", SCENARIOS)
def test_decisions_have_the_state_of_each_limit(
    name: str, way: str, kind: str, stage: Stage
) -> None:
    """After an allowed request the limits have been taken from, after a refusal they have not."""
    asker = Asker(stage, kind)
    for number, asked in enumerate(SCENARIOS[name], start=1):
        played = asker.ask(way, asked)
        # The credits of open holds may come back, so a hold is told to come again.
        held = Verdict.CREDITS_HELD if (way, asked.verdict) == ("hold", POOR) else asked.verdict
        assert played.answer in {asked.verdict, held}, f"step {number}"
        states = [LimitState.of(*pair) for pair in _pairs(asked)]
        assert played.tells["limits"] == tuple(states), f"step {number}"
        if asked.verdict is LIMITED:
            first = next(state for state in states if not state.remaining)
            told = played.tells["limited_by"], played.tells["retry_after_ms"]
            assert told == (first.name, first.resets_in_ms), f"step {number}"


def _pairs(asked: Asked) -> Iterator[tuple[RateLimit, int, int]]:
    for limit, (remaining, resets_in_ms) in zip(asked.limits, asked.left, strict=True):
        yield limit, remaining, resets_in_ms


@pytest.mark.parametrize("kind", KINDS)
def test_without_checked_limits_none_is_shown(kind: str, stage: Stage) -> None:
    """A retry, a known key and an unknown user are answered before the limits."""
    asker, limits = Asker(stage, kind), (STEADY, WINDOW)
    for step, count in (
        (steps.charge("a", limits=limits, key=key("one")), 2),
        (steps.charge("a", limits=limits, key=key("one")), 0),
        (steps.charge("b", limits=limits, key=key("one")), 0),
        (steps.hold("c", limits=limits, key=key("two")), 2),
        (steps.hold("c", limits=limits, key=key("two")), 0),
        (steps.charge("d", limits=limits, user="nobody"), 0),
    ):
        told = asker.play(step).tells["limits"]
        assert isinstance(told, tuple)
        assert len(told) == count, step


@pytest.mark.parametrize("kind", KINDS)
def test_a_peek_returns_the_balance_and_takes_nothing(kind: str, stage: Stage) -> None:
    """However often one looks."""
    asker = Asker(stage, kind)
    asker.ask("charge", Asked((STEADY,), []))
    for _ in range(2):
        peek = asker.ask("charge", Asked((STEADY,), [], cost=0))
        assert peek.tells["limits"] == (LimitState.of(STEADY, 2, 20_000),)


REQUESTS = st.builds(
    Asked,
    st.sampled_from([(STEADY,), (UNEVEN, WINDOW), (WINDOW, PACED, UNEVEN), ()]),
    st.just([]),
    after_ms=st.sampled_from([0, 1, 7, 999, 5_003, 20_000, 25_714, 60_000, 240_000]),
    cost=st.sampled_from([0, 1, CREDITS]),
)


@settings(
    max_examples=50,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(way=st.sampled_from(["charge", "observe"]), requests=st.lists(REQUESTS, max_size=20))
def test_random_requests_get_the_same_answers(
    stage: Stage, way: str, requests: list[Asked]
) -> None:
    """And what a decision says of a limit is what the next request finds."""
    specified, asker = Asker(stage, "memory"), Asker(stage, "redis")
    told: tuple[LimitState, ...] = ()
    for asked in requests:
        played = asker.ask(way, asked)
        assert played == specified.ask(way, asked), asked
        limits = played.tells["limits"]
        assert isinstance(limits, tuple)
        _check_promise(told, limits, played, asked)
        told = limits


def _check_promise(
    told: tuple[LimitState, ...],
    limits: tuple[LimitState, ...],
    played: Played,
    asked: Asked,
) -> None:
    """Until `resets_in_ms` have passed, no more than `remaining` may come; and so many may."""
    before = {state.name: state for state in told}
    for state in limits:
        earlier = before.get(state.name)
        if earlier is None:
            continue
        assert state.remaining >= earlier.remaining - 1, asked
        if asked.after_ms < earlier.resets_in_ms:
            assert state.remaining <= earlier.remaining, asked
            assert earlier.remaining or played.answer is LIMITED, asked
