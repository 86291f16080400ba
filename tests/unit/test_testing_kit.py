"""The testing kit: what it lets a test set, force, break and look at."""

import pytest

from asgi_client import answers, call
from faregate import (
    Allowance,
    CreditPolicy,
    KeyState,
    Period,
    PeriodKind,
    PolicySet,
    TransactionType,
    Verdict,
)
from faregate.asgi import FaregateMiddleware
from faregate.domain.errors import (
    ArchiveUnavailableError,
    InvalidArgumentError,
    LedgerUnavailableError,
    LedgerUninitialisedError,
    OutcomeUnknownError,
)
from faregate.domain.policy import GateOptions
from faregate.gate import Gate
from faregate.testing import Clock, Failure, MemoryGate, memory_gate
from waiting import WAIT_S_MAX

DAILY = CreditPolicy(allowance=Allowance(amount=10, period=Period(kind=PeriodKind.DAY)))
DAY_MS = 86_400_000


def test_users_have_the_given_credits() -> None:
    """The starting credits, or what is said; set anew at any time, below zero, too."""
    gate = memory_gate(credits=7)
    user = gate.sign_up()
    assert gate.credits_of(user) == 7
    assert gate.credits_of(gate.sign_up(credits=0)) == 0
    for credits_ in (0, 100, 100, -4):
        gate.set_credits(user, credits_)
        assert gate.credits_of(user) == credits_
    kinds = [record.type for record in gate.records(user)]
    assert kinds == [TransactionType.ADD] + [TransactionType.ADMIN_ADJUSTMENT] * 3
    assert gate.sign_up(user, credits=1) == user
    assert gate.credits_of(user) == 1


async def test_a_charge_finds_the_credits_that_were_set() -> None:
    """What a new period brings is reckoned with, so that none means none."""
    gate = memory_gate(DAILY)
    user = gate.sign_up()
    assert gate.credits_of(user) == 13
    gate.set_credits(user, 0)
    assert (await gate.charge(user)).verdict is Verdict.OUT_OF_CREDITS
    gate.set_credits(user, 2)
    assert (await gate.charge(user, cost=2)).credits == 0
    gate.clock.advance(DAY_MS)
    assert gate.credits_of(user) == 10


def test_a_user_who_has_not_signed_up_is_unknown() -> None:
    """A mistake in a test is told, not made up for."""
    gate = memory_gate()
    someone = memory_gate().sign_up()
    for ask in (gate.credits_of, lambda user: gate.set_credits(user, 1)):
        with pytest.raises(InvalidArgumentError, match="sign_up"):
            ask(someone)


def test_policies_set_the_starting_credits() -> None:
    """So nobody can say it beside them."""
    with pytest.raises(InvalidArgumentError, match="not both"):
        memory_gate(DAILY, credits=5)
    tiers = PolicySet(tiers={"free": CreditPolicy(starting_credits=9)}, default_tier="free")
    gate = memory_gate(tiers)
    assert gate.credits_of(gate.sign_up()) == 9


async def test_charges_and_refunds_are_counted() -> None:
    """For one user or all; holds count, and so does what of them came back."""
    gate = memory_gate(credits=10)
    user, other = gate.sign_up(), gate.sign_up()
    decision = await gate.charge(user, cost=3)
    await gate.charge(other, cost=1)
    await gate.refund(decision, amount=2)
    hold = await gate.hold(user, 4)
    await gate.settle(hold, 1)
    assert (gate.charged(user), gate.refunded(user)) == (7, 5)
    assert (gate.charged(), gate.refunded()) == (8, 5)
    assert gate.credits_of(user) == 10 - 7 + 5
    refunds = gate.records(user, TransactionType.REFUND)
    assert [refund.amount for refund in refunds] == [2, 3]
    before = gate.records()
    assert gate.drain() == 5
    assert gate.drain() == 0
    assert gate.records() == before


async def test_history_has_all_rows_until_now() -> None:
    """As if the worker were as fast as can be; the clock gives the order."""
    gate = memory_gate()
    user = gate.sign_up()
    for _ in range(2):
        gate.clock.advance(1_000)
        await gate.charge(user)
    page = await gate.history(user, count_max=2)
    assert [row.amount for row in page.rows] == [-1, -1]
    assert page.ends_at is not None
    rest = await gate.history(user, before=page.ends_at)
    assert [row.amount for row in rest.rows] == [3]
    assert rest.ends_at is None


@pytest.mark.parametrize(
    "verdict",
    [
        Verdict.UNKNOWN_USER,
        Verdict.VOIDED,
        Verdict.BACKLOG,
        Verdict.RATE_LIMITED,
        Verdict.OUT_OF_CREDITS,
        Verdict.CREDITS_HELD,
        Verdict.OVERLOADED,
    ],
)
async def test_a_forced_refusal_takes_nothing_and_ends_with_its_block(verdict: Verdict) -> None:
    """Charges and holds alike, as often as is asked; names and numbers fit the verdict."""
    gate = memory_gate()
    user = gate.sign_up()
    with gate.answering(verdict, retry_after_ms=1_500):
        for decision in (
            await gate.charge(user, cost=2),
            await gate.charge(user, cost=2),
            (await gate.hold(user, 2)).decision,
        ):
            assert (decision.verdict, decision.amount) == (verdict, -2)
            waits = verdict in {Verdict.RATE_LIMITED, Verdict.OVERLOADED}
            assert decision.retry_after_ms == (1_500 if waits else 0)
            assert bool(decision.limited_by) is (verdict is Verdict.RATE_LIMITED)
            lacks = verdict in {Verdict.OUT_OF_CREDITS, Verdict.CREDITS_HELD}
            assert decision.credits == (0 if lacks else 3)
    assert gate.charged(user) == 0
    assert (await gate.charge(user)).allowed


async def test_answers_about_keys_or_holds_apply_only_to_them() -> None:
    """Other requests are decided as always."""
    gate = memory_gate(credits=100)
    user = gate.sign_up()
    for verdict in (Verdict.KEY_REUSED, Verdict.TOO_MANY_KEYS):
        with gate.answering(verdict):
            assert (await gate.charge(user, idempotency_key="k")).verdict is verdict
            assert (await gate.hold(user, 1, idempotency_key="k")).decision.verdict is verdict
            assert (await gate.charge(user)).allowed
    with gate.answering(Verdict.TOO_MANY_HOLDS):
        assert (await gate.hold(user, 1)).decision.verdict is Verdict.TOO_MANY_HOLDS
        assert (await gate.charge(user)).allowed
    with gate.answering(KeyState.DONE):
        hold = await gate.hold(user, 1, idempotency_key="k")
        assert (hold.allowed, hold.decision.key_state) == (True, KeyState.DONE)
    assert gate.charged(user) == 3


@pytest.mark.parametrize(
    "answer", [Verdict.ALLOWED, Verdict.HOLD_OPEN, Verdict.REFUND_EXCEEDED, KeyState.NEW]
)
def test_an_impossible_answer_cannot_be_forced(answer: Verdict | KeyState) -> None:
    """It would test what never happens."""
    gate = memory_gate()
    with pytest.raises(InvalidArgumentError, match="on purpose"), gate.answering(answer):
        pass


async def test_blocks_can_lie_within_each_other() -> None:
    """The inner one holds, then the outer one again."""
    gate = memory_gate()
    user = gate.sign_up()
    with gate.answering(Verdict.BACKLOG):
        with gate.answering(Verdict.CREDITS_HELD), gate.failing(Failure.POSTGRES_DOWN):
            assert (await gate.charge(user)).verdict is Verdict.CREDITS_HELD
        assert (await gate.charge(user)).verdict is Verdict.BACKLOG


@pytest.mark.parametrize(
    ("failure", "error"),
    [
        (Failure.REDIS_DOWN, LedgerUnavailableError),
        (Failure.REDIS_LOST, LedgerUninitialisedError),
        (Failure.REQUEST_LOST, OutcomeUnknownError),
        (Failure.ANSWER_LOST, OutcomeUnknownError),
    ],
)
async def test_a_failure_raises_an_error_and_charges_no_user(
    failure: Failure, error: type[Exception]
) -> None:
    """What may have been charged is given back; the first answer afterwards is a decision."""
    gate = memory_gate()
    user = gate.sign_up()
    with gate.failing(failure), pytest.raises(error):
        await gate.charge(user)
    with gate.failing(failure), pytest.raises(error):
        await gate.hold(user, 1)
    assert await gate.retries.join(WAIT_S_MAX)
    assert gate.credits_of(user) == 3
    assert gate.charged(user) == gate.refunded(user) == (2 if failure is Failure.ANSWER_LOST else 0)
    assert (await gate.charge(user)).credits == 2


async def test_without_redis_nothing_that_needs_it_works() -> None:
    """A refund is made as soon as Redis is back."""
    gate = memory_gate(PolicySet(tiers={"default": CreditPolicy(), "tried": SHADOW}))
    user = gate.sign_up()
    decision = await gate.charge(user)
    hold = await gate.hold(user, 1)
    with gate.failing(Failure.REDIS_DOWN):
        assert (await gate.refund(decision)).is_pending
        assert (await gate.cancel(hold)).is_pending
        for attempt in (
            gate.usage(user),
            gate.grant(user, 1),
            gate.extend(hold, 1_000),
            gate.shadow_counts("tried"),
        ):
            with pytest.raises(LedgerUnavailableError):
                await attempt
        undecided = await gate.charge(user, tier="tried")
        assert (undecided.allowed, undecided.shadow) == (True, Verdict.UNDECIDED)
        assert (await gate.history(user)).rows
    assert await gate.retries.join(WAIT_S_MAX)
    assert gate.refunded(user) == 2


SHADOW = CreditPolicy(name="tried", is_shadow=True)


async def test_without_postgres_known_users_are_served() -> None:
    """Those that are new are not, and nobody reads a history."""
    gate = memory_gate()
    user, stranger = gate.sign_up(), memory_gate().sign_up()
    with gate.failing(Failure.POSTGRES_DOWN):
        assert (await gate.charge(user)).allowed
        for attempt in (gate.charge(stranger), gate.history(user)):
            with pytest.raises(ArchiveUnavailableError):
                await attempt
    assert (await gate.charge(stranger)).verdict is Verdict.UNKNOWN_USER


async def test_the_clock_moves_only_when_it_is_advanced() -> None:
    """From the first of January 2026, or from what was said; who gets no answer has waited."""
    gate = memory_gate(options=GateOptions(decision_timeout_ms=250))
    assert gate.now_ms() == gate.clock() == 1_767_225_600_000
    hold = await gate.hold(gate.sign_up(), 3, ttl_ms=1_000)
    assert gate.credits_of(hold.user_id) == 0
    gate.clock.advance(1_000)
    assert (await gate.charge(hold.user_id)).credits == 2
    assert memory_gate(clock=Clock(5)).now_ms() == 5
    with gate.failing(Failure.REQUEST_LOST), pytest.raises(OutcomeUnknownError):
        await gate.charge(hold.user_id)
    assert gate.clock() == 1_767_225_600_000 + 1_000 + 251


async def test_it_is_a_gate_like_any_other() -> None:
    """It is mounted, and opened and closed, in the same way; loops come and go around it."""
    gate = memory_gate()
    assert isinstance(gate, Gate)
    assert isinstance(gate, MemoryGate)
    user = gate.sign_up()
    app = FaregateMiddleware(answers(500), gate, identify=lambda _: user)
    async with gate.lifespan():
        assert (await call(app)).status == 500
    assert (gate.charged(user), gate.refunded(user)) == (1, 1)
