"""What the tests of the gate have in common: a clock to move, and a ledger that loses answers."""

from uuid import UUID, uuid4

import pytest

from faregate.adapters.memory.store import MemoryStore
from lossy_ledger import Clock, LossyLedger


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(clock: Clock) -> LossyLedger:
    return LossyLedger(clock)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore(starting_credits=3)


@pytest.fixture
def user_id() -> UUID:
    return uuid4()
