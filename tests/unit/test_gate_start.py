"""How a gate begins: with a ledger that must be the right one, and with users seen first."""

import asyncio
from uuid import UUID, uuid4

import pytest

from faregate import CreditPolicy, Gate, User
from faregate.adapters.memory.ledger import MemoryLedger
from faregate.adapters.memory.store import MemoryStore
from faregate.domain.errors import ArchiveUnavailableError, LedgerUninitialisedError
from faregate.domain.identity import LedgerIdentity
from faregate.domain.policy import GateOptions


@pytest.fixture
def user_id() -> UUID:
    return uuid4()


async def test_a_lost_ledger_serves_no_user(user_id: UUID) -> None:
    """Where Postgres says that Redis was installed, an empty one fails closed."""
    store = MemoryStore(starting_credits=3)
    await Gate(MemoryLedger(), store, CreditPolicy()).start()
    with pytest.raises(LedgerUninitialisedError):
        await Gate(MemoryLedger(), store, CreditPolicy()).charge(user_id)


async def test_all_callers_that_wait_for_the_first_start_fail_together(user_id: UUID) -> None:
    """Postgres is asked once, not once for each request that waits."""

    class Down(MemoryStore):
        asked = 0

        async def identity(self) -> LedgerIdentity:
            Down.asked += 1
            await asyncio.sleep(0.01)
            raise ArchiveUnavailableError("Postgres is down")

    gate = Gate(MemoryLedger(), Down(), CreditPolicy())
    outcomes = await asyncio.gather(
        *(gate.charge(user_id) for _ in range(50)), return_exceptions=True
    )
    assert {type(outcome) for outcome in outcomes} == {ArchiveUnavailableError}
    assert Down.asked == 1
    with pytest.raises(ArchiveUnavailableError):
        await gate.charge(user_id)
    assert Down.asked == 2


async def test_a_user_seen_first_by_many_requests_is_opened_once(user_id: UUID) -> None:
    """A burst of a new user does not become a burst of questions to Postgres."""

    class Counting(MemoryStore):
        opened = 0

        async def open(self, user_id: UUID, *, provision: bool) -> User | None:
            Counting.opened += 1
            await asyncio.sleep(0.01)
            return await super().open(user_id, provision=provision)

    options = GateOptions(provision_users=True)
    gate = Gate(MemoryLedger(), Counting(starting_credits=3), CreditPolicy(), options)
    decisions = await asyncio.gather(*(gate.charge(user_id) for _ in range(500)))
    assert sum(decision.allowed for decision in decisions) == 3
    assert Counting.opened == 1
