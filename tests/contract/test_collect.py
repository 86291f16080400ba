"""Collecting from a journal: the memory adapter and Redis take the same, and record the same."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from clocks import Clock, RedisClock, use_test_clock
from faregate.adapters.memory.ledger import MemoryLedger
from faregate.adapters.redis.ledger import RedisLedger
from faregate.adapters.redis.runner import ScriptRunner
from faregate.adapters.redis.stream import RedisStream
from faregate.domain.decision import Decision
from faregate.domain.errors import AmountError, TransactionConflictError
from faregate.domain.idempotency import IdempotencyKey
from faregate.domain.identity import LedgerIdentity
from faregate.domain.journal import JournalEntry
from faregate.domain.period import Period, PeriodKind
from faregate.domain.policy import Allowance
from faregate.domain.request import Charge, Credit, Refund
from faregate.domain.transaction import (
    CREDITS_MAX,
    CreditTransaction,
    CreditTransactionId,
    TransactionType,
)
from faregate.domain.user import User
from faregate.ports import Ledger

IDENTITY = LedgerIdentity(
    ledger_id=UUID(int=1), shard_count=1, starting_credits=5, epoch=7, installed=False
)
HOUR_MS = 3_600_000
TEN = Allowance(amount=10, period=Period(kind=PeriodKind.ROLLING, length_ms=HOUR_MS))
KEY = IdempotencyKey(key="once", fingerprint="GET /", lifetime_ms=HOUR_MS, lease_ms=HOUR_MS)


@dataclass(slots=True)
class Side:
    """A ledger with one user of five credits, and its clock."""

    ledger: Ledger
    clock: Clock
    user_id: UUID
    redis_url: str = ""

    def entry(self, name: str, cost: int, **rest: object) -> JournalEntry:
        """Return the entry that a name stands for."""
        return JournalEntry(
            attempt_id=identify(name),
            user_id=self.user_id,
            cost=cost,
            description=f"request {name}",
            metadata={"name": name},
            asked_at_ms=1,
            deadline_ms=2,
            served_at_ms=1_800_000_000_000,
            **rest,  # type: ignore[arg-type]
        )

    async def collect(self, name: str, cost: int, **rest: object) -> tuple[object, ...]:
        """Collect; return what came of it."""
        return seen(await self.ledger.collect(self.entry(name, cost, **rest)))

    async def charge(self, cost: int, key: IdempotencyKey | None = None) -> Decision:
        """Charge as a request would."""
        now_ms = self.clock()
        return await self.ledger.charge(
            Charge(
                user_id=self.user_id,
                transaction_id=CreditTransactionId.mint(now_ms),
                cost=cost,
                asked_at_ms=now_ms,
                deadline_ms=now_ms + 1_000,
                description="request",
                fresh=True,
                key=key,
            )
        )

    async def give_back(self, name: str, amount: int | None) -> tuple[object, ...]:
        """Refund what was collected."""
        refund = Refund(
            user_id=self.user_id,
            deduct_id=self.entry(name, 0).deduct_id,
            transaction_id=identify(f"refund {name} {amount}"),
            amount=amount,
            description="refund",
        )
        return seen(await self.ledger.refund(refund))

    def records(self) -> list[CreditTransaction]:
        """Return all records, oldest first."""
        if isinstance(self.ledger, MemoryLedger):
            return list(self.ledger.pending.values())
        stream = RedisStream.from_url(self.redis_url, 1)
        try:
            return [entry.transaction for entry in stream.unacknowledged(0) if entry.transaction]
        finally:
            stream.close()


def identify(name: str) -> CreditTransactionId:
    """Return the id that a name stands for, on both sides the same one."""
    return CreditTransactionId.derive(name, UUID(int=7))


def seen(decision: Decision) -> tuple[object, ...]:
    """Return what both adapters must agree on."""
    return (
        str(decision.verdict),
        decision.amount if decision.allowed else None,
        decision.credits,
        decision.allowance_left,
        decision.repeated,
    )


def shape(record: CreditTransaction) -> tuple[object, ...]:
    """Return what both adapters must agree on; times, and ids of charges, differ."""
    return (
        record.type,
        record.amount,
        record.sequence,
        record.balance_after,
        record.description,
        record.metadata,
        record.allowance_amount,
        record.allowance_after,
    )


@asynccontextmanager
async def side_on(kind: str, url: str) -> AsyncIterator[Side]:
    """Begin with a user of five credits."""
    user = User(id=uuid4(), credits=5, sequence=1, epoch=IDENTITY.epoch)
    if kind == "memory":
        clock = Clock()
        memory = MemoryLedger(now_ms=clock)
        await memory.attach(IDENTITY)
        await memory.install(user)
        yield Side(memory, clock, user.id)
        return
    with Redis.from_url(url) as client:
        # Time begins anew, and ids of a stream cannot go back.
        client.flushall()
        ledger = RedisLedger(ScriptRunner.from_url(url), shard_count=1, stream_length_max=9_999)
        redis_clock = RedisClock(client)
        try:
            await ledger.attach(IDENTITY)
            await ledger.install(user)
            yield Side(ledger, redis_clock, user.id, url)
        finally:
            await ledger.aclose()


@pytest.fixture(params=["memory", "redis"])
async def side(
    request: pytest.FixtureRequest, ledger_redis: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Side]:
    """Both, by turns."""
    use_test_clock(monkeypatch)
    async with side_on(request.param, ledger_redis) as made:
        yield made


async def test_what_is_owed_is_taken_once(side: Side) -> None:
    """The second time tells what was taken the first time."""
    assert await side.collect("a", 2) == ("allowed", -2, 3, 0, False)
    assert await side.collect("b", 1) == ("allowed", -1, 2, 0, False)
    assert await side.collect("a", 2) == ("allowed", -2, 3, 0, True)
    assert await side.collect("a", 9) == ("allowed", -2, 3, 0, True)
    assert [record.amount for record in side.records()] == [-2, -1]
    record = side.records()[0]
    assert record.id == side.entry("a", 2).deduct_id
    assert record.metadata == {
        "name": "a",
        "journal": {
            "attempt": str(identify("a")),
            "cost": 2,
            "served_at": "2027-01-15T08:00:00.000+00:00",
        },
    }


async def test_no_more_is_taken_than_there_is(side: Side) -> None:
    """What was not there is noted, and a user who has nothing gets a record of nothing."""
    assert await side.collect("a", 7) == ("allowed", -5, 0, 0, False)
    assert await side.collect("b", 1) == ("allowed", 0, 0, 0, False)
    shortfalls = [(record.metadata or {}).get("shortfall") for record in side.records()]
    assert shortfalls == [2, 1]


async def test_a_debt_is_made_no_larger(side: Side) -> None:
    """Below zero there is nothing to take."""
    adjustment = Credit(
        user_id=side.user_id,
        transaction_id=identify("debt"),
        type=TransactionType.ADMIN_ADJUSTMENT,
        amount=-9,
        description="debt",
        negative_allowed=True,
    )
    await side.ledger.credit(adjustment)
    assert await side.collect("a", 3) == ("allowed", 0, -4, 0, False)


async def test_a_new_period_begins_and_its_allowance_is_spent_first(side: Side) -> None:
    """As with a charge."""
    assert await side.collect("a", 4, allowance=TEN) == ("allowed", -4, 11, 6, False)
    side.clock.advance(HOUR_MS)
    assert await side.collect("b", 12, allowance=TEN) == ("allowed", -12, 3, 0, False)
    assert await side.collect("c", 9, allowance=TEN) == ("allowed", -3, 0, 0, False)
    moved = [record.allowance_amount for record in side.records()]
    assert moved == [10, -4, 4, -10, 0]


async def test_an_unlimited_user_is_recorded_and_pays_nothing(side: Side) -> None:
    """The cost is in the metadata, and is no shortfall."""
    assert await side.collect("a", 3, is_unlimited=True) == ("allowed", 0, 5, 0, False)
    (record,) = side.records()
    assert record.metadata is not None
    assert "shortfall" not in record.metadata
    assert record.metadata["journal"]["cost"] == 3  # type: ignore[index]


async def test_nothing_is_written_of_what_costs_nothing(side: Side) -> None:
    """It is looked up, and begins no period."""
    assert await side.collect("a", 0, allowance=TEN) == ("allowed", 0, 5, 0, False)
    assert side.records() == []
    await side.collect("b", 2)
    assert await side.collect("b", 0) == ("allowed", -2, 3, 0, True)


async def test_what_was_given_back_is_told(side: Side) -> None:
    """The repetition tells what is left of it; a refund finds it, bounded by what was taken."""
    await side.collect("a", 7)
    assert await side.give_back("a", 2) == ("allowed", 2, 2, 0, False)
    assert (await side.collect("a", 7))[1] == -3
    assert (await side.give_back("a", 4))[0] == "refund_exceeded"
    assert await side.give_back("a", None) == ("allowed", 3, 5, 0, False)
    assert (await side.collect("a", 7))[1] == 0
    await side.collect("b", 9)
    await side.collect("c", 1)
    assert (await side.give_back("c", None))[0] == "refund_exceeded"


async def test_a_key_that_was_served_is_not_charged_again(side: Side) -> None:
    """Neither before the outage nor, from then on, after it."""
    key = KEY.kept()
    charged = await side.charge(1, KEY)
    assert (await side.collect("a", 1, key=key))[1:] == (0, 4, 0, True)
    other = replace(key, fingerprint_digest=bytes(16))
    assert await side.collect("b", 1, key=other) == ("allowed", -1, 3, 0, False)
    fresh = IdempotencyKey(key="another", lifetime_ms=HOUR_MS, lease_ms=HOUR_MS)
    assert await side.collect("c", 1, key=fresh.kept()) == ("allowed", -1, 2, 0, False)
    again = await side.charge(1, fresh)
    assert (again.repeated, str(again.key_state), again.amount) == (True, "done", -1)
    assert (await side.charge(1, KEY)).transaction_id == charged.transaction_id
    side.clock.advance(key.lifetime_ms)
    assert (await side.collect("d", 1, key=key))[1] == -1


async def test_a_user_who_is_full_of_keys_is_charged_all_the_same(side: Side) -> None:
    """The request has been served; only its key is not kept."""
    for name in ("a", "b"):
        key = IdempotencyKey(key=name, keys_max=1)
        assert (await side.collect(name, 1, key=key.kept()))[1] == -1
    assert (await side.charge(1, IdempotencyKey(key="b", keys_max=9))).amount == -1
    assert (await side.charge(1, IdempotencyKey(key="a", keys_max=9))).repeated


async def test_nobody_pays_under_the_id_of_another(side: Side) -> None:
    """The same attempt of two users cannot be."""
    other = User(id=uuid4(), credits=5, sequence=1, epoch=IDENTITY.epoch)
    await side.ledger.install(other)
    await side.collect("a", 1)
    theirs = replace(side.entry("a", 1), user_id=other.id)
    with pytest.raises(TransactionConflictError):
        await side.ledger.collect(theirs)


async def test_an_unknown_user_is_not_charged(side: Side) -> None:
    """Nobody is invented."""
    stranger = replace(side.entry("a", 1), user_id=uuid4())
    assert seen(await side.ledger.collect(stranger))[0] == "unknown_user"
    assert side.records() == []


async def test_no_top_up_takes_a_balance_out_of_its_range(side: Side) -> None:
    """As with a charge, it is refused whole."""
    credit = Credit(
        user_id=side.user_id,
        transaction_id=identify("all"),
        type=TransactionType.ADD,
        amount=CREDITS_MAX - 5,
        description="all",
    )
    await side.ledger.credit(credit)
    with pytest.raises(AmountError):
        await side.collect("a", 1, allowance=TEN)
    assert (await side.collect("a", 1))[1] == -1


STEPS = st.one_of(
    st.tuples(
        st.just("collect"),
        st.sampled_from("abcd"),
        st.integers(0, 8),
        st.sampled_from([None, TEN]),
        st.booleans(),
        st.sampled_from(["", "one", "two"]),
    ),
    st.tuples(
        st.just("give back"), st.sampled_from("abcd"), st.one_of(st.none(), st.integers(1, 4))
    ),
    st.tuples(st.just("charge"), st.integers(0, 3), st.sampled_from(["", "one", "two"])),
    st.tuples(st.just("wait"), st.sampled_from([1, HOUR_MS // 2, HOUR_MS])),
)


@settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(steps=st.lists(STEPS, max_size=20))
def test_random_sequences_end_alike(
    ledger_redis: str, monkeypatch: pytest.MonkeyPatch, steps: list[tuple[object, ...]]
) -> None:
    """Whatever is collected, charged and given back, both answer and record the same."""
    with monkeypatch.context() as patched:
        use_test_clock(patched)
        specified, played = (
            asyncio.run(_play(kind, ledger_redis, steps)) for kind in ("memory", "redis")
        )
    assert played == specified


async def _play(kind: str, url: str, steps: list[tuple[object, ...]]) -> list[object]:
    async with side_on(kind, url) as side:
        answers: list[object] = [await _do(side, step) for step in steps]
        attempts = {str(record.metadata): shape(record) for record in side.records()}
        return [*answers, *attempts.values(), len(side.records())]


async def _do(side: Side, step: tuple[object, ...]) -> object:
    do, *rest = step
    if do == "collect":
        name, cost, allowance, is_unlimited, key = rest
        kept = IdempotencyKey(key=str(key)).kept() if key else None
        return await side.collect(
            str(name), int(str(cost)), allowance=allowance, is_unlimited=is_unlimited, key=kept
        )
    if do == "give back":
        name, amount = rest
        return await side.give_back(str(name), amount)  # type: ignore[arg-type]
    if do == "charge":
        cost, key = rest
        decision = await side.charge(int(str(cost)), IdempotencyKey(key=str(key)) if key else None)
        return seen(decision), decision.key_state
    side.clock.advance(int(str(rest[0])))
    return None
