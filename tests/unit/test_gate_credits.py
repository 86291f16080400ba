"""Grants and adjustments, each once for its key or its id, for good."""

from typing import Any
from uuid import UUID, uuid4

import pytest

from faregate import CreditPolicy, CreditTransactionId, Gate, TransactionType, Verdict
from faregate.adapters.memory.store import MemoryStore
from faregate.domain.errors import InvalidArgumentError, TransactionConflictError
from faregate.domain.policy import GateOptions
from lossy_ledger import Clock, LossyLedger, outlive

#: Longer than the ledger remembers anything of a grant.
LONG_MS = 86_400_001


@pytest.fixture
def gate(ledger: LossyLedger, store: MemoryStore) -> Gate:
    return Gate(ledger, store, CreditPolicy(), GateOptions(provision_users=True))


async def live(gate: Gate, user_id: UUID) -> int:
    user = await gate.balance(user_id)
    assert user is not None
    return user.credits


@pytest.mark.parametrize("is_forgotten", [False, True], ids=["at once", "after a day"])
@pytest.mark.parametrize("name", ["idempotency_key", "transaction_id"])
async def test_a_grant_is_made_once(
    gate: Gate,
    ledger: LossyLedger,
    store: MemoryStore,
    clock: Clock,
    user_id: UUID,
    name: str,
    *,
    is_forgotten: bool,
) -> None:
    """A webhook that comes twice, and even where only the row is left."""
    once: Any = {name: "payment-7" if name == "idempotency_key" else CreditTransactionId(uuid4())}
    first = await gate.grant(user_id, 10, **once)
    if is_forgotten:
        outlive(ledger, store, clock, LONG_MS)
    again = await gate.grant(user_id, 10, **once)
    assert (first.repeated, again.repeated) == (False, True)
    assert first.transaction_id == again.transaction_id
    assert first.credits == again.credits == await live(gate, user_id) == 13
    with pytest.raises(TransactionConflictError):
        await gate.grant(user_id, 11, **once)
    assert await live(gate, user_id) == 13


async def test_each_user_has_keys_of_its_own(gate: Gate, user_id: UUID) -> None:
    """Two payments of two users may have one name; those of one user may not."""
    other = uuid4()
    for each in (user_id, other):
        assert not (await gate.grant(each, 10, idempotency_key="payment-7")).repeated
        assert await live(gate, each) == 13
    await gate.grant(user_id, 10, idempotency_key="payment-8")
    assert await live(gate, user_id) == 23


async def test_an_adjustment_is_made_once_for_its_key(gate: Gate, user_id: UUID) -> None:
    """Its key is none of a grant's: what is known as one cannot be the other."""
    why: Any = {"actor": "ann", "reason": "a mistake", "idempotency_key": "ticket-1"}
    first = await gate.adjust(user_id, -2, **why)
    again = await gate.adjust(user_id, -2, **why)
    assert (first.credits, again.credits, again.repeated) == (1, 1, True)
    for amount in (-1, 2):
        with pytest.raises(TransactionConflictError):
            await gate.adjust(user_id, amount, **why)
    with pytest.raises(TransactionConflictError):
        await gate.grant(user_id, 2, idempotency_key="ticket-1")
    assert await live(gate, user_id) == 1


async def test_an_adjustment_stores_actor_and_reason(
    gate: Gate, ledger: LossyLedger, user_id: UUID
) -> None:
    """In its record; without either nothing is written."""
    await gate.adjust(user_id, 1, actor="ann", reason="a mistake", metadata={"ticket": 5})
    (record,) = ledger.pending.values()
    assert (record.type, record.description) == (TransactionType.ADMIN_ADJUSTMENT, "a mistake")
    assert record.metadata == {"ticket": 5, "actor": "ann"}
    nothing: Any = None
    for actor, reason in (("", "why"), (" ", "why"), ("who", ""), ("who", "\t"), (nothing, "why")):
        with pytest.raises(InvalidArgumentError, match="needs its"):
            await gate.adjust(user_id, 1, actor=actor, reason=reason)
    assert len(ledger.pending) == 1


async def test_a_key_and_an_id_mean_the_same(
    gate: Gate, ledger: LossyLedger, user_id: UUID
) -> None:
    """Both together could contradict each other, and neither may be empty."""
    identity = CreditTransactionId(uuid4())
    with pytest.raises(InvalidArgumentError, match="not both"):
        await gate.grant(user_id, 1, idempotency_key="a", transaction_id=identity)
    with pytest.raises(InvalidArgumentError, match="not both"):
        await gate.adjust(
            user_id, 1, actor="a", reason="b", idempotency_key="a", transaction_id=identity
        )
    for bad in ("", "x" * 256, 5):
        with pytest.raises(InvalidArgumentError, match="255 bytes"):
            await gate.grant(user_id, 1, idempotency_key=bad)  # type: ignore[arg-type]
    assert not ledger.pending


async def test_an_adjustment_goes_below_zero_where_it_says_so(gate: Gate, user_id: UUID) -> None:
    """Else it is refused, and its key stays free."""
    refused = await gate.adjust(user_id, -5, actor="a", reason="b", idempotency_key="k")
    assert refused.verdict is Verdict.OUT_OF_CREDITS
    allowed = await gate.adjust(
        user_id, -5, actor="a", reason="b", idempotency_key="k", negative_allowed=True
    )
    assert (allowed.repeated, allowed.credits) == (False, -2)
