"""The use cases, over the memory adapters and one that loses replies."""

import asyncio
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from faregate import CreditPolicy, CreditTransactionId, Gate, Verdict
from faregate.adapters.memory.store import MemoryStore
from faregate.adapters.memory.stream import MemoryStream
from faregate.domain.attempt import Event
from faregate.domain.errors import (
    AmountError,
    ConfigurationError,
    InvalidArgumentError,
    OutcomeUnknownError,
    TransactionConflictError,
    TransactionIdError,
)
from faregate.domain.policy import GateOptions
from faregate.domain.transaction import CreditTransaction, TransactionType
from lossy_ledger import Clock, LossyLedger, outlive
from waiting import WAIT_S_MAX

DAY_MS = 86_400_000


@pytest.fixture
def gate(ledger: LossyLedger, store: MemoryStore) -> Gate:
    return Gate(ledger, store, CreditPolicy(), GateOptions(provision_users=True))


async def live(gate: Gate, user_id: UUID) -> int:
    user = await gate.balance(user_id)
    assert user is not None
    return user.credits


async def settle(gate: Gate, clock: Clock) -> None:
    """Let the deadline pass, so that what is to be voided is."""
    clock.ms += 1_000
    assert await gate.retries.join(WAIT_S_MAX)


async def test_a_new_user_has_its_starting_credits_and_no_more(gate: Gate, user_id: UUID) -> None:
    """Three requests pass, the fourth does not."""
    verdicts = [(await gate.charge(user_id)).verdict for _ in range(4)]
    assert verdicts == [Verdict.ALLOWED] * 3 + [Verdict.OUT_OF_CREDITS]


async def test_an_unknown_user_is_refused_unless_users_are_provisioned(
    ledger: LossyLedger, store: MemoryStore, user_id: UUID
) -> None:
    """Without provisioning only users of Postgres are charged."""
    strict = Gate(ledger, store, CreditPolicy())
    assert (await strict.charge(user_id)).verdict is Verdict.UNKNOWN_USER
    store.users.add(user_id)
    assert (await strict.charge(user_id)).allowed


async def test_a_charge_whose_reply_is_lost_is_given_back(
    gate: Gate, ledger: LossyLedger, clock: Clock, user_id: UUID
) -> None:
    """The caller is told that it is unavailable, and pays nothing."""
    await gate.charge(user_id)
    ledger.lose(Event.TIMED_OUT)
    with pytest.raises(OutcomeUnknownError):
        await gate.charge(user_id)
    assert (await ledger.read(user_id)).credits == 1  # type: ignore[union-attr]
    await settle(gate, clock)
    assert await live(gate, user_id) == 2
    kinds = [record.type for record in ledger.pending.values()]
    assert kinds == [TransactionType.DEDUCT, TransactionType.DEDUCT, TransactionType.REFUND]


async def test_a_charge_that_never_arrived_leaves_nothing(
    gate: Gate, ledger: LossyLedger, clock: Clock, user_id: UUID
) -> None:
    """Its void finds nothing to give back."""
    await gate.charge(user_id)
    ledger.lose(Event.TIMED_OUT, decided=False)
    with pytest.raises(OutcomeUnknownError):
        await gate.charge(user_id)
    await settle(gate, clock)
    assert await live(gate, user_id) == 2
    assert len(ledger.pending) == 1


async def test_a_cancelled_charge_is_given_back(
    gate: Gate, ledger: LossyLedger, clock: Clock, user_id: UUID
) -> None:
    """A caller that gives up before the answer is not charged."""
    await gate.charge(user_id)
    ledger.released = asyncio.Event()
    task = asyncio.create_task(gate.charge(user_id))
    await ledger.is_waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    ledger.released.set()
    assert (await ledger.read(user_id)).credits == 1  # type: ignore[union-attr]
    await settle(gate, clock)
    assert await live(gate, user_id) == 2


async def test_a_callers_own_id_charges_once(gate: Gate, clock: Clock, user_id: UUID) -> None:
    """A retry with the same id gets the first answer."""
    identity = CreditTransactionId.mint(clock())
    first = await gate.charge(user_id, transaction_id=identity)
    again = await gate.charge(user_id, transaction_id=identity)
    assert (first.repeated, again.repeated) == (False, True)
    assert first.credits == again.credits == await live(gate, user_id) == 2


async def test_an_id_without_a_time_is_refused(gate: Gate, user_id: UUID) -> None:
    """The age of a charge's id must be known, so that the memory of ids is bounded."""
    with pytest.raises(TransactionIdError, match="UUIDv7"):
        await gate.charge(user_id, transaction_id=CreditTransactionId(uuid4()))


@pytest.mark.parametrize("cost", [-1, 1.5, True, 2**31, "1"])
async def test_a_cost_that_is_no_amount_is_refused(gate: Gate, user_id: UUID, cost: int) -> None:
    """Nothing is written, and the error says what an amount is."""
    with pytest.raises(AmountError):
        await gate.charge(user_id, cost=cost)
    assert await live(gate, user_id) == 3


async def test_a_user_id_that_is_no_uuid_is_refused(gate: Gate) -> None:
    """Text that looks like one is not one; the error says what to do."""
    text: Any = "user-1"
    with pytest.raises(InvalidArgumentError, match="UUID"):
        await gate.charge(text)
    with pytest.raises(InvalidArgumentError, match="UUID"):
        await gate.grant(text, 1)
    with pytest.raises(InvalidArgumentError, match="UUID"):
        await gate.refund_by_id(text, CreditTransactionId(uuid4()))


async def test_a_charge_that_is_voided_late_is_looked_up_in_postgres(
    gate: Gate, ledger: LossyLedger, store: MemoryStore, clock: Clock, user_id: UUID
) -> None:
    """Its record may have left the stream by then, so that the ledger cannot tell."""
    await gate.charge(user_id)
    ledger.lose(Event.TIMED_OUT)
    with pytest.raises(OutcomeUnknownError):
        await gate.charge(user_id)
    (_, lost) = ledger.pending.values()
    outlive(ledger, store, clock, 91_000)
    assert await gate.retries.join(WAIT_S_MAX)
    assert await live(gate, user_id) == 2
    refunds = [record for record in ledger.pending.values() if record.refund_of == lost.id]
    assert len(refunds) == 1


async def test_a_refund_that_is_a_row_is_not_repeated_for_the_rest(
    gate: Gate, ledger: LossyLedger, store: MemoryStore, clock: Clock, user_id: UUID
) -> None:
    """Where Redis has forgotten both the deduct and the refund, its id still stands for one."""
    decision = await gate.charge(user_id, cost=3)
    first = await gate.refund(decision, amount=2)
    outlive(ledger, store, clock, DAY_MS + 1)
    again = await gate.refund_by_id(user_id, decision.transaction_id)
    assert (first.amount, again.amount, again.repeated) == (2, 2, True)
    assert await live(gate, user_id) == 2


async def test_settings_that_differ_from_the_ledger_are_refused_at_the_start(
    ledger: LossyLedger, store: MemoryStore, user_id: UUID
) -> None:
    """A policy with other starting credits would tell clients a wrong quota."""
    other = Gate(ledger, store, CreditPolicy(starting_credits=50))
    with pytest.raises(ConfigurationError, match="50"):
        await other.charge(user_id)


async def test_a_refund_that_cannot_be_made_is_made_later(
    gate: Gate, ledger: LossyLedger, user_id: UUID
) -> None:
    """Nothing is raised: the answer says that it is pending, and the credits come back, once."""
    decision = await gate.charge(user_id)
    ledger.lost["refund"] = 3
    pending = await gate.refund(decision)
    assert (pending.is_pending, pending.allowed) == (True, False)
    assert await gate.retries.join(WAIT_S_MAX)
    assert ledger.lost["refund"] == 0
    assert await live(gate, user_id) == 3
    assert (await gate.refund(decision)).repeated


async def test_a_deduct_that_only_postgres_knows_is_refunded(
    gate: Gate, ledger: LossyLedger, store: MemoryStore, user_id: UUID
) -> None:
    """However old a charge is, it can be given back once."""
    decision = await gate.charge(user_id, cost=2)
    batch = MemoryStream(ledger).read(0, None, 10)
    assert batch is not None
    store.store(batch)
    store.begin_epoch(1)
    later = Gate(LossyLedger(ledger.now_ms), store, CreditPolicy())
    refunded = await later.refund_by_id(user_id, decision.transaction_id)
    assert (refunded.verdict, refunded.amount, refunded.credits) == (Verdict.ALLOWED, 2, 3)


async def test_given_up_actions_are_counted(gate: Gate) -> None:
    """Nothing is dropped in silence."""

    async def never() -> bool:
        return False

    gate.retries.submit("something", never)
    await gate.retries.aclose(0.01)
    assert gate.retries.given_up == 1
    assert len(gate.retries) == 0


@pytest.mark.parametrize("amount", [None, 1])
async def test_a_refund_takes_no_id_that_is_a_row_already(
    gate: Gate, store: MemoryStore, user_id: UUID, amount: int | None
) -> None:
    """The id of a grant that the ledger has long forgotten."""
    charged = await gate.charge(user_id)
    taken = CreditTransactionId(uuid4())
    store.rows[taken] = CreditTransaction(
        id=taken,
        user_id=user_id,
        amount=1,
        type=TransactionType.ADD,
        description="grant",
        timestamp=datetime.now(UTC),
        sequence=9,
        balance_after=1,
        epoch=0,
    )
    with pytest.raises(TransactionConflictError):
        await gate.refund(charged, amount=amount, transaction_id=taken)


async def test_a_position_that_is_none_is_refused(gate: Gate, user_id: UUID) -> None:
    """At once, and nothing is tried again."""
    charged = await gate.charge(user_id)
    with pytest.raises(InvalidArgumentError):
        await gate.refund_by_id(user_id, charged.transaction_id, position="zzz")
    assert len(gate.retries) == 0
