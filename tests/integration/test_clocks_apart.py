"""Clocks that differ: gates a minute apart, and a server whose clock steps back and forth.

Time is that of the test. The gates learn it from replies, as they do in production.
"""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from uuid import UUID

import pytest
from redis import Redis

from faregate import Decision, Gate
from faregate.adapters.memory.store import MemoryStore
from faregate.adapters.redis import calls
from faregate.adapters.redis.queue import Waiting
from faregate.domain.attempt import Attempt
from faregate.domain.errors import LedgerUnavailableError, OutcomeUnknownError
from faregate.domain.request import VoidOutcome
from faregate.domain.spend import NO_OPTIONS, HoldOptions, Spend, SpendOptions
from faregate.domain.transaction import TransactionType
from faregate.domain.windows import MINTED_ID_AHEAD_MS_MAX
from gates_apart import MINUTE_MS, POLICY, Rows, Times, gates_at, learnt_clock, store_at
from lossy_proxy import lossy_proxy
from redis_ledger import TIMEOUT_MS
from soak import SOAK, Record, counted
from waiting import WAIT_S_MAX

pytestmark = pytest.mark.redis

USERS = [UUID(int=number << 64 | number, version=4) for number in range(1, 7)]
#: How far the clock of the server steps, in milliseconds: about as far as a minted id may be ahead,
#: and far beyond it.
STEPS = (1, 249, 252, 5_000, MINUTE_MS, -1, -100, -249, -252, -5_000, -MINUTE_MS)
#: A void waits until its deadline has passed, so few go far back where voids are waited for.
BACK_MS_MAX = 5_000 if SOAK else 1_000
ROUNDS = 400 if SOAK else 60
#: How often a request comes before it is served, once the clock stands where it does.
TRIES_MAX = 3


@pytest.fixture
def times(client: Redis) -> Iterator[Times]:
    with learnt_clock(client) as server:
        yield Times(server)


@pytest.fixture
def store(times: Times) -> MemoryStore:
    return store_at(times)


@pytest.fixture
async def gates(ledger_redis: str, times: Times, store: MemoryStore) -> AsyncIterator[list[Gate]]:
    async with gates_at(ledger_redis, times, store) as opened:
        await asyncio.gather(*(gate.balance(user_id) for user_id in USERS for gate in opened))
        yield opened


@pytest.fixture
def rows(client: Redis, store: MemoryStore) -> Iterator[Rows]:
    with closing(Rows(client, store)) as opened:
        yield opened


async def served(gate: Gate, user_id: UUID, refused: Counter[str]) -> Decision:
    """Charge until it is decided, which is soon; each refusal says that nothing was charged."""
    for _ in range(TRIES_MAX):
        try:
            return await gate.charge(user_id)
        except OutcomeUnknownError:
            raise
        except LedgerUnavailableError as error:
            refused["late" if "deadline" in str(error) else "ahead"] += 1
    raise AssertionError("never served")


async def test_gates_a_minute_apart_charge_alike(
    gates: list[Gate], times: Times, rows: Rows
) -> None:
    """The ids of both carry the time of the server, and nothing is refused."""
    decisions: list[Decision] = []
    for number in range(ROUNDS):
        times.go_on(number * 7)
        asked = [gate.charge(user_id) for user_id in USERS for gate in gates]
        some = await asyncio.gather(*asked)
        assert all(decision.allowed for decision in some)
        times_ms = {decision.transaction_id.time_ms for decision in some}
        assert times_ms <= {times.server(), times.server() + 1}
        decisions += some
    assert len({decision.transaction_id for decision in decisions}) == len(decisions)
    rows.drain()
    assert {rows.spent(user_id) for user_id in USERS} == {2 * ROUNDS}
    rows.check_times()


@pytest.mark.parametrize("late_ms", [0, 1])
async def test_a_deadline_is_the_same_for_gates_a_minute_apart(
    gates: list[Gate],
    times: Times,
    rows: Rows,
    monkeypatch: pytest.MonkeyPatch,
    late_ms: int,
) -> None:
    """A call that takes as long as it may is charged; one that takes longer is not."""
    pack = calls.CallPacker.pack

    def pack_slowly(packer: calls.CallPacker, waiting: list[Waiting]) -> calls.Call:
        packed = pack(packer, waiting)
        times.go_on(TIMEOUT_MS + late_ms)
        return packed

    monkeypatch.setattr(calls.CallPacker, "pack", pack_slowly)
    for gate in gates:
        if late_ms:
            with pytest.raises(LedgerUnavailableError, match="deadline") as caught:
                await gate.charge(USERS[0])
            assert not isinstance(caught.value, OutcomeUnknownError)
        else:
            assert (await gate.charge(USERS[0])).allowed
    rows.drain()
    assert rows.spent(USERS[0]) == (0 if late_ms else len(gates))


async def test_a_server_whose_clock_steps_is_charged_on_soon_and_once(
    gates: list[Gate], times: Times, rows: Rows, record_property: Record
) -> None:
    """Back and forth, again and again: nobody is refused for good, nothing is charged twice."""
    draw, refused = random.Random(10), Counter[str]()  # noqa: S311 - no secret.
    for _ in range(ROUNDS):
        times.go_on(draw.randrange(50))
        times.step(draw.choice(STEPS))
        users = draw.sample(USERS, 4)
        asked = [served(gate, user_id, refused) for user_id in users for gate in gates]
        decisions = await asyncio.gather(*asked)
        assert all(decision.allowed for decision in decisions)
        if draw.random() < 0.2:
            rows.drain()
    record_property("soak", f"clocks that step: {ROUNDS} rounds; {counted(refused)}")
    assert refused["late"]
    rows.drain()
    assert sum(map(rows.spent, USERS)) == ROUNDS * 4 * len(gates)
    rows.check_times()


@pytest.mark.parametrize("is_hold", [False, True])
async def test_a_record_older_than_its_request_is_voided_after_the_clock_was_set_back(
    gates: list[Gate], times: Times, rows: Rows, *, is_hold: bool
) -> None:
    """A minted id is that of one call, so nothing of it was answered to an earlier one."""
    options = SpendOptions(hold=HoldOptions(ttl_ms=MINUTE_MS)) if is_hold else NO_OPTIONS
    for gate in gates:
        ledger = gate._session.ledger
        times.go_on(MINUTE_MS)
        assert (await gate.charge(USERS[1])).allowed
        times.step(-MINTED_ID_AHEAD_MS_MAX // 2)
        attempt = Attempt(Spend(USERS[0], 5, POLICY, options))
        decision = await ledger.decide(attempt)
        assert decision.allowed
        assert decision.decided_at_ms < attempt.asked_at_ms
        times.go_on(TIMEOUT_MS + MINTED_ID_AHEAD_MS_MAX)
        assert await ledger.void(attempt.void()) is VoidOutcome.REFUNDED
    rows.drain()
    assert rows.spent(USERS[0]) == 0


@dataclass(slots=True)
class Told:
    """What callers were told."""

    charged: Counter[UUID] = field(default_factory=Counter)
    undecided: Counter[UUID] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)

    async def charge(self, gate: Gate, user_id: UUID) -> None:
        """Charge once."""
        try:
            decision = await gate.charge(user_id)
        except OutcomeUnknownError:
            self.events["unknown"] += 1
            self.undecided[user_id] += 1
        except LedgerUnavailableError:
            self.events["refused"] += 1
        else:
            self.events["repeated" if decision.repeated else "charged"] += 1
            self.charged[user_id] += decision.allowed


async def steps(times: Times, draw: random.Random, over: asyncio.Event) -> None:
    """Set the clock again and again, while calls are on their way."""
    while not over.is_set():
        times.go_on(draw.randrange(20))
        times.step(max(-BACK_MS_MAX, draw.choice(STEPS)))
        with suppress(TimeoutError):
            await asyncio.wait_for(over.wait(), draw.uniform(0, 0.01))


async def test_replies_that_are_lost_while_the_clock_steps_charge_nothing_twice(
    ledger_redis: str, times: Times, store: MemoryStore, rows: Rows, record_property: Record
) -> None:
    """Acknowledged <= ledger <= acknowledged + undecided, and equal after the voids."""
    draw, told, over = random.Random(20), Told(), asyncio.Event()  # noqa: S311 - no secret.
    async with (
        lossy_proxy(ledger_redis) as (proxy, url),
        gates_at(url, times, store, timeout_ms=500) as gates,
    ):
        stepping = asyncio.ensure_future(steps(times, draw, over))
        for number in range(ROUNDS):
            # Up to all replies to first attempts and to their retries.
            proxy.replies_to_lose, proxy.requests_to_lose = number % 5, number % 3 % 2
            await asyncio.gather(*(told.charge(gate, one) for one in USERS for gate in gates))
            if draw.random() < 0.2:
                rows.drain()
        over.set()
        await stepping
        proxy.replies_to_lose = proxy.requests_to_lose = 0
        rows.drain()
        for one in USERS:
            most = told.charged[one] + told.undecided[one]
            assert told.charged[one] <= rows.spent(one) <= most
        await all_voided(gates, times)
        rows.drain()
        assert {one: rows.spent(one) for one in USERS} == {one: told.charged[one] for one in USERS}
        for gate in gates:
            for user_id in USERS:
                assert (await served(gate, user_id, Counter())).allowed
    refunds = sum(row.type is TransactionType.REFUND for row in rows.all)
    told_of = f"{ROUNDS} rounds, {proxy.lost} messages lost; {counted(told.events)}"
    record_property("soak", f"lost replies while clocks step: {told_of}, refunds {refunds}")
    assert min(proxy.lost, told.events["repeated"], told.events["unknown"], refunds) > 0
    rows.check_times()


async def all_voided(gates: Sequence[Gate], times: Times) -> None:
    """Let time pass until nothing is left to be voided."""
    async with asyncio.timeout(WAIT_S_MAX):
        while any(len(gate.retries) for gate in gates):
            times.go_on(100)
            for gate in gates:
                await gate.retries.join(0.05)
    assert not any(gate.retries.given_up for gate in gates)
