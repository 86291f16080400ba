"""A breaker for each lane: what one server does not answer is nothing against another."""

from uuid import UUID

import pytest

from faregate.adapters.memory.ledger import MemoryLedger
from faregate.domain.errors import LedgerUnavailableError
from faregate.domain.health import BreakerState
from faregate.domain.policy import BreakerOptions
from faregate.gate.breakers import Breakers

OPTIONS = BreakerOptions(failures_max=1, delay_ms_min=60_000, delay_ms_max=60_000)


@pytest.fixture
def breakers() -> Breakers:
    return Breakers(OPTIONS, MemoryLedger())


def open_one(breakers: Breakers, lane: str) -> None:
    breaker = breakers.of(lane)
    breaker.note_failure(breaker.admit())
    assert breaker.is_open


def test_a_breaker_that_opens_refuses_the_calls_of_its_lane_alone(breakers: Breakers) -> None:
    """By an error with the name of the lane. The worst state is that of all."""
    open_one(breakers, "b:1")
    with pytest.raises(LedgerUnavailableError, match="b:1 does not answer"):
        breakers.of("b:1").admit()
    breakers.of("a:1").admit()
    health = breakers.health(["a:1", "b:1"])
    assert health.worst.breaker is BreakerState.OPEN
    assert (health.opened, health.lanes["a:1"].opened, health.lanes["b:1"].opened) == (1, 0, 1)
    assert health.lanes["a:1"].breaker is BreakerState.CLOSED


def test_a_lane_that_is_gone_is_forgotten_and_its_openings_count(breakers: Breakers) -> None:
    """Its server has left the cluster, so nothing would close its breaker."""
    open_one(breakers, "b:1")
    breakers.of("a:1").admit()
    health = breakers.health(["a:1"])
    assert (health.worst.breaker, health.opened) == (BreakerState.CLOSED, 1)
    assert set(health.lanes) == {"a:1"}
    assert not breakers.of("b:1").is_open, "should its server come back"


def test_without_lanes_nothing_is_forgotten(breakers: Breakers) -> None:
    """Before the start and after the close, the ledger has none."""
    assert breakers.health([]).worst.breaker is BreakerState.CLOSED
    open_one(breakers, "b:1")
    assert breakers.health([]).worst.breaker is BreakerState.OPEN


def test_calls_to_all_servers_have_a_breaker_of_their_own(breakers: Breakers) -> None:
    """One dead server fails them, and the users of others are served."""
    of_all = breakers.of_user(None)
    of_all.note_failure(of_all.admit())
    assert of_all.is_open
    assert not breakers.of_user(UUID(int=1)).is_open
    assert breakers.health(["memory"]).worst.breaker is BreakerState.OPEN
    assert breakers.of_user(None) is of_all
