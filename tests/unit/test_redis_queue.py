"""Who is sent next, who is refused at the entrance, and what a spend is packed to."""

import asyncio
from collections import Counter
from uuid import UUID, uuid4

import pytest

from faregate.adapters.redis import keys, layouts
from faregate.adapters.redis.encoding import ALONE, SpendPacker
from faregate.adapters.redis.queue import FairQueue, Waiting
from faregate.adapters.redis.throughput import COUNT_MIN, COUNT_UNKNOWN, QueueLimit
from faregate.domain.attempt import Attempt, AttemptError, Event, Phase
from faregate.domain.errors import ConfigurationError
from faregate.domain.idempotency import IdempotencyKey
from faregate.domain.limit import LimitKind, RateLimit
from faregate.domain.policy import CreditPolicy
from faregate.domain.spend import HoldOptions, Spend, SpendOptions
from faregate.domain.transaction import CreditTransactionId

PLAIN = CreditPolicy()
KEYED = CreditPolicy(limits=(RateLimit(name="a", count=1, period_ms=1_000, is_by_key=True),))


class Line:
    """A queue, and attempts of users in it."""

    def __init__(self) -> None:
        self.queue = FairQueue()
        self._packer = SpendPacker()

    def waiting(self, user: int, policy: CreditPolicy = PLAIN) -> Waiting:
        attempt = Attempt(Spend(UUID(int=user), 1, policy))
        packed = self._packer.pack(attempt)
        made = Waiting(attempt, keys.shards(1)[0], str(user).encode(), packed)
        made.future = asyncio.get_running_loop().create_future()
        made.since_s = 0.0
        return made

    def add(self, *users: int, policy: CreditPolicy = PLAIN, count_max: int = 10_000) -> int:
        return sum(self.queue.add(self.waiting(user, policy), count_max) for user in users)

    def take(self, count_max: int) -> list[int]:
        return [int(waiting.account) for waiting in self.queue.take(count_max)]


async def test_first_come_is_first_served() -> None:
    """As long as nobody fills the calls."""
    line = Line()
    line.add(*range(10))
    assert (line.take(4), line.take(100), line.take(100)) == ([0, 1, 2, 3], [4, 5, 6, 7, 8, 9], [])


async def test_one_user_does_not_fill_the_calls_while_others_wait() -> None:
    """It gets a quarter of each; its own order stays, and so does that of the others."""
    line = Line()
    line.add(*[1] * 100, *range(10, 40))
    first = line.take(16)
    assert Counter(first)[1] == 4
    assert [user for user in first if user != 1] == list(range(10, 22))
    second = line.take(16)
    assert Counter(second)[1] == 4
    assert [user for user in second if user != 1] == list(range(22, 34))


async def test_one_user_fills_a_call_without_other_users() -> None:
    """Nothing is left empty for the sake of fairness."""
    line = Line()
    line.add(*[1] * 100, 2)
    taken = line.take(64)
    assert (len(taken), Counter(taken)[2]) == (64, 1)
    assert line.take(64) == [1] * 37


async def test_a_call_holds_one_spend_of_a_user_that_must_stand_alone() -> None:
    """The others wait for the next calls, in their order, and leave no others behind."""
    line = Line()
    line.add(1, 1, 1, 2, policy=KEYED)
    line.add(1, 3)
    assert line.take(100) == [1, 2, 1, 3]
    assert line.take(100) == [1]
    assert line.take(100) == [1]
    assert len(line.queue) == 0


async def test_one_user_does_not_keep_the_others_out() -> None:
    """Of a queue that is half full it may fill a quarter; the whole is never exceeded."""
    line = Line()
    assert line.add(*[1] * 100, count_max=100) == 50
    assert line.add(*range(10, 100), count_max=100) == 50
    assert len(line.queue) == 100


async def test_attempts_without_a_caller_are_neither_sent_nor_counted() -> None:
    """A caller that was cancelled leaves its place to the next one."""
    line = Line()
    line.add(1, 2, 3)
    gone = line.waiting(4)
    line.queue.add(gone, 100)
    gone.future.cancel()
    line.add(5)
    assert line.take(4) == [1, 2, 3, 5]
    assert line.queue._counts == {}


async def test_attempts_that_waited_too_long_fail() -> None:
    """Those that came later wait on."""
    line = Line()
    early, late = line.waiting(1), line.waiting(2)
    late.since_s = 5.0
    for waiting in (early, late):
        line.queue.add(waiting, 100)
    line.queue.drop_older(4.0, Event.SHED, "too long")
    assert line.queue.since_s() == 5.0
    with pytest.raises(AttemptError, match="too long"):
        early.future.result()
    line.queue.drop_all(AttemptError(Event.NOT_SENT, "closed"))
    with pytest.raises(AttemptError, match="closed"):
        late.future.result()
    assert line.queue._counts == {}


def test_nothing_is_refused_before_a_rate_is_known() -> None:
    """Where nothing is left waiting, Redis could have decided on more than it did."""
    limit = QueueLimit(0.06)
    for tenth in range(30):
        limit.note_empty()
        limit.note_decided(1, tenth / 10)
    assert limit.count == COUNT_UNKNOWN


def test_as_many_wait_as_are_decided_in_a_third_of_the_time() -> None:
    """By the best rate of the last second, so that refusals do not breed refusals."""
    limit = QueueLimit(0.06)
    for tenth in range(5):
        limit.note_decided(10_000, tenth * 0.1001)
    assert limit.count == pytest.approx(100_000 * 0.02, rel=0.01)
    for tenth in range(5, 13):
        limit.note_decided(100, tenth * 0.1001)
    assert limit.count == pytest.approx(100_000 * 0.02, rel=0.01)
    for tenth in range(13, 30):
        limit.note_decided(100, tenth * 0.1001)
    assert limit.count == COUNT_MIN


@pytest.mark.parametrize(
    ("options", "phase", "flags"),
    [
        (SpendOptions(), Phase.QUEUED, 0),
        (SpendOptions(), Phase.SENT_AGAIN, layouts.RETRY),
        (SpendOptions(transaction_id=CreditTransactionId.mint(1)), Phase.QUEUED, layouts.GIVEN),
        (SpendOptions(description=""), Phase.QUEUED, layouts.TEXT),
        (SpendOptions(metadata={}), Phase.QUEUED, layouts.TEXT),
        (SpendOptions(key=IdempotencyKey(key="k")), Phase.QUEUED, layouts.KEY),
        (SpendOptions(hold=HoldOptions(ttl_ms=100)), Phase.QUEUED, layouts.HOLD),
    ],
)
def test_each_option_is_packed_where_it_is_set(
    options: SpendOptions, phase: Phase, flags: int
) -> None:
    """And costs nothing where it is not."""
    attempt = Attempt(Spend(uuid4(), 1, PLAIN, options))
    attempt.phase = phase
    _, packed, _ = SpendPacker().pack(attempt)
    assert packed == flags
    reads_keys = layouts.RETRY | layouts.GIVEN | layouts.KEY | layouts.LIMIT_KEYS
    assert packed & ALONE == flags & reads_keys


def test_a_policy_is_packed_once_for_each_object() -> None:
    """With its limits, and without them for a spend that is not limited."""
    packer = SpendPacker()
    spends = [
        Spend(uuid4(), 1, KEYED, SpendOptions(is_limited=is_limited))
        for is_limited in (True, False, True)
    ]
    limited, unlimited, again = (packer.pack(Attempt(spend))[0] for spend in spends)
    assert again is limited
    assert (len(limited.limits), unlimited.limits, unlimited.flags) == (1, (), 0)
    size = layouts.POLICY.size
    assert (len(limited.packed), len(unlimited.packed)) == (size + layouts.LIMIT.size, size)


def test_states_of_limits_are_named_apart() -> None:
    """By kind, name and whose they are, and of a shadow by its policy."""
    user_id = uuid4()
    names = set()
    for kind in LimitKind:
        for name in ("a", "b"):
            limit = RateLimit(name=name, count=1, period_ms=1_000, kind=kind, is_by_key=True)
            for shadow in (False, True):
                policy = CreditPolicy(limits=(limit,), is_shadow=shadow)
                for key in ("", "k"):
                    attempt = Attempt(Spend(user_id, 1, policy, SpendOptions(limit_key=key)))
                    _, _, sections = SpendPacker().pack(attempt)
                    names.add(sections[-16:])
    assert len(names) == 16


def test_limits_whose_digests_are_equal_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rather than counted together."""
    monkeypatch.setattr("faregate.adapters.redis.encoding._NAME_BYTES", 0)
    limits = tuple(RateLimit(name=name, count=1, period_ms=1_000) for name in "ab")
    with pytest.raises(ConfigurationError, match="rename"):
        SpendPacker().pack(Attempt(Spend(uuid4(), 1, CreditPolicy(limits=limits))))
