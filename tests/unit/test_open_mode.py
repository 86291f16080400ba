"""Requests that are served without a decision, because none could be had."""

from uuid import UUID, uuid4

import pytest

from faregate import CreditPolicy, FailureMode, FaregateError, Gate, Verdict
from faregate.adapters.memory.store import MemoryStore
from faregate.domain.errors import (
    ArchiveUnavailableError,
    ConfigurationError,
    InvalidArgumentError,
    LedgerUnavailableError,
    LedgerUninitialisedError,
    OutcomeUnknownError,
)
from faregate.domain.journal import Collection
from faregate.domain.transaction import TransactionType
from faregate.domain.user import User
from journals import OPTIONS, POLICIES, Outage
from lossy_ledger import LossyLedger

OPEN = FailureMode.OPEN


@pytest.fixture
async def outage() -> Outage:
    return await Outage.prepare()


async def test_a_request_is_served_and_charged_later(outage: Outage) -> None:
    """It costs what it would have cost, once, and its row tells the rest."""
    outage.ledger.is_down = True
    decision = await outage.gate.charge(
        outage.user_id, cost=2, on_failure=OPEN, metadata={"route": "/"}
    )
    assert (decision.verdict, decision.journaled, decision.amount) == (Verdict.ALLOWED, True, -2)
    assert decision.policy == CreditPolicy()
    (entry,) = outage.journal.entries
    assert entry.attempt_id == decision.transaction_id
    assert not entry.may_be_charged, "nothing was sent, so nothing has to be voided"
    assert outage.gate.health().served_open == 1
    assert len(outage.gate.retries) == 0
    outage.ledger.is_down = False
    first = await outage.gate.collect(entry)
    assert (first.outcome, first.charged) == (Collection.COLLECTED, 2)
    assert (await outage.gate.collect(entry)).outcome is Collection.KNOWN
    assert await outage.live() == 1
    (record,) = outage.ledger.pending.values()
    assert (record.id, record.type) == (entry.deduct_id, TransactionType.DEDUCT)
    assert record.metadata is not None
    assert record.metadata["route"] == "/"


async def test_a_request_is_refused_where_it_is_not_said_to_be_served(outage: Outage) -> None:
    """Closed is what holds if nothing is said."""
    outage.ledger.is_down = True
    with pytest.raises(LedgerUnavailableError):
        await outage.gate.charge(outage.user_id)
    assert outage.journal.lines == []
    assert outage.gate.health().served_open == 0


async def test_open_mode_needs_a_journal_before_it_is_needed(outage: Outage) -> None:
    """The first request says so, and not the first outage."""
    gate = Gate(outage.ledger, outage.store, POLICIES, OPTIONS)
    assert not gate.serves_open
    for attempt in (gate.charge(uuid4(), on_failure=OPEN), gate.hold(uuid4(), 1, on_failure=OPEN)):
        with pytest.raises(ConfigurationError, match="FAREGATE_JOURNAL_DIR"):
            await attempt


async def test_a_request_that_cannot_be_journaled_is_not_served(outage: Outage) -> None:
    """A journal that is full fails closed; nothing that could not be a row is served."""
    outage.ledger.is_down = True
    with pytest.raises(InvalidArgumentError):
        await outage.charge(metadata={"bad": "\0"})
    outage.journal.is_full = True
    with pytest.raises(LedgerUnavailableError, match="full"):
        await outage.charge()
    assert outage.gate.health().served_open == 0


async def test_an_unlimited_user_is_recorded(outage: Outage) -> None:
    """As with a decision: a deduct of nothing, with the cost in its metadata."""
    outage.ledger.is_down = True
    decision = await outage.charge(cost=2, tier="admin")
    assert decision.amount == 0
    assert (await outage.gate.refund(decision)).verdict is Verdict.REFUND_EXCEEDED
    outage.ledger.is_down = False
    assert [one.outcome for one in await outage.collect()] == [Collection.KNOWN]
    (record,) = outage.ledger.pending.values()
    assert (record.amount, (record.metadata or {})["cost"]) == (0, 2)


async def test_a_peek_is_answered_and_not_written_down(outage: Outage) -> None:
    """It costs nothing."""
    outage.ledger.is_down = True
    assert (await outage.charge(cost=0)).journaled
    assert outage.journal.lines == []
    assert outage.gate.health().served_open == 1


async def test_other_reasons_than_a_silent_redis(outage: Outage) -> None:
    """A Redis that was wiped, a Postgres that is down: there is no decision either."""

    class Down(MemoryStore):
        async def open(self, user_id: UUID, *, provision: bool) -> User | None:
            raise ArchiveUnavailableError("Postgres is down")

    reasons: list[tuple[type[FaregateError], MemoryStore]] = [
        (ArchiveUnavailableError, Down()),
        (LedgerUninitialisedError, outage.store),
    ]
    for expected, store in reasons:
        ledger = LossyLedger(outage.clock)
        gate = Gate(ledger, store, POLICIES, OPTIONS, journal=outage.journal)
        assert (await gate.charge(outage.user_id, on_failure=OPEN)).journaled, expected
        with pytest.raises(expected):
            await gate.charge(outage.user_id)
    assert len(outage.journal.entries) == 2


async def test_a_backlog_is_no_reason_to_refuse(outage: Outage) -> None:
    """Where it is served closed, it is: the verdict says so."""
    outage.ledger.records.pending_max = len(outage.ledger.pending)
    assert (await outage.charge()).journaled
    assert (await outage.gate.charge(outage.user_id)).verdict is Verdict.BACKLOG


async def test_a_process_that_starts_in_an_outage_serves(outage: Outage) -> None:
    """Redis has never told its time, so the entry has the time of the machine."""
    outage.ledger.is_down = True
    outage.ledger.now_ms = lambda: 0
    gate = Gate(outage.ledger, outage.store, POLICIES, OPTIONS, journal=outage.journal)
    decision = await gate.charge(uuid4(), on_failure=OPEN)
    assert decision.transaction_id.time_ms
    assert abs(decision.transaction_id.time_ms - outage.journal.entries[0].served_at_ms) < 60_000


async def test_a_void_that_is_given_up_is_left_to_the_import(outage: Outage) -> None:
    """The gate is closed before Redis is back: nobody pays for what was refused."""
    outage.ledger.is_lossy = True
    with pytest.raises(OutcomeUnknownError):
        await outage.gate.charge(outage.user_id)
    outage.ledger.is_lossy = False
    outage.ledger.is_down = True
    await outage.gate.retries.aclose(0.01)
    outage.ledger.is_down = False
    assert outage.gate.health().retries_given_up == 0
    (entry,) = outage.journal.entries
    assert (entry.is_served, entry.may_be_charged) == (False, True)
    outage.clock.ms += 1_000
    assert [one.outcome for one in await outage.collect()] == [Collection.VOIDED]
    assert await outage.live() == 3
