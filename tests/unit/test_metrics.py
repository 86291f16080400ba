"""What a scrape of Prometheus finds."""

from pathlib import Path
from uuid import uuid4

import pytest

from faregate import CreditPolicy, FailureMode, Gate
from faregate.adapters.journal.writer import FileJournal
from faregate.adapters.memory.store import MemoryStore
from faregate.domain.attempt import Event
from faregate.domain.errors import LedgerUnavailableError
from faregate.domain.policy import BreakerOptions, GateOptions
from faregate.metrics import GateCollector
from lossy_ledger import Clock, LossyLedger
from scrapes import by_name, exposition


def scrape(gate: Gate) -> dict[str, float]:
    """Return each sample by its name and label."""
    return by_name(exposition(GateCollector(gate)))


async def test_an_outage_shows(tmp_path: Path) -> None:
    """The breaker, what is served without a decision, and what waits to be voided."""
    ledger = LossyLedger(Clock())
    options = GateOptions(provision_users=True, breaker=BreakerOptions(failures_max=2))
    journal = FileJournal(tmp_path, bytes_max=10_000)
    gate = Gate(ledger, MemoryStore(), CreditPolicy(), options, journal=journal)
    user_id = uuid4()
    await gate.charge(user_id)
    before = scrape(gate)
    assert before["faregate_breaker_state/closed"] == 1
    assert before["faregate_served_open_total"] == before["faregate_journal_requests_total"] == 0
    ledger.lose(Event.TIMED_OUT, Event.TIMED_OUT, decided=False)
    with pytest.raises(LedgerUnavailableError):
        await gate.charge(user_id)
    assert (await gate.charge(user_id, on_failure=FailureMode.OPEN)).journaled
    after = scrape(gate)
    assert after["faregate_breaker_state/open"] == after["faregate_breaker_opened_total"] == 1
    assert after["faregate_breaker_state/closed"] == after["faregate_breaker_state/half_open"] == 0
    assert after["faregate_lane_breaker_state/memory/open"] == 1
    assert after["faregate_lane_breaker_state/memory/closed"] == 0
    assert after["faregate_served_open_total"] == after["faregate_journal_requests_total"] == 1
    assert 0 < after["faregate_journal_bytes"] < after["faregate_journal_bytes_max"] == 10_000
    assert after["faregate_retries_waiting"] == 2
    assert (before["faregate_voids_total"], after["faregate_voids_total"]) == (0, 2)
    assert after["faregate_retries_given_up_total"] == 0
    gate.retries._tries_s_max = 0
    await gate.retries.aclose(0)
    assert scrape(gate)["faregate_retries_given_up_total"] == 0, "the journal has them"
    await gate.aclose()


async def test_a_gate_without_a_journal_shows_none() -> None:
    """Nothing is said of what is not there."""
    gate = Gate(LossyLedger(Clock()), MemoryStore(), CreditPolicy())
    assert not [name for name in scrape(gate) if "journal" in name]
