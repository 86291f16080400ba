"""A gate belongs to one event loop and one process; others are refused before anything is sent."""

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from typing import Any
from uuid import UUID, uuid4

import pytest

from faregate import CreditPolicy, CreditTransactionId, FailureMode, Gate
from faregate.adapters.memory.store import MemoryStore
from faregate.domain.attempt import Attempt, AttemptError, Event
from faregate.domain.decision import Decision
from faregate.domain.errors import ConfigurationError, LedgerUnavailableError
from faregate.domain.policy import GateOptions
from faregate.domain.user import User
from journals import ListJournal
from lossy_ledger import Clock, LossyLedger

OPTIONS = GateOptions(provision_users=True, close_timeout_s=0.05)
USER = uuid4()

#: Everything that asks a server, on a gate that is in use elsewhere.
CALLS: dict[str, Callable[[Gate], Coroutine[Any, Any, object]]] = {
    "start": lambda gate: gate.start(),
    "charge": lambda gate: gate.charge(USER),
    "hold": lambda gate: gate.hold(USER, 1),
    "refund": lambda gate: gate.refund_by_id(USER, gate_id(), amount=1, transaction_id=gate_id()),
    "grant": lambda gate: gate.grant(USER, 1),
    "balance": lambda gate: gate.balance(USER),
    "history": lambda gate: gate.history(USER),
    "renew": lambda gate: gate.users_after(None, 1),
    "aclose": lambda gate: gate.aclose(),
}


def gate_id() -> CreditTransactionId:
    """Return some id of a transaction."""
    return CreditTransactionId(uuid4())


def make_gate(ledger: LossyLedger, **rest: Any) -> Gate:
    store = MemoryStore()
    return Gate(ledger, store, CreditPolicy(), OPTIONS, history=store, **rest)


@pytest.mark.parametrize("name", CALLS)
async def test_another_loop_is_refused_while_the_first_one_runs(
    ledger: LossyLedger, name: str
) -> None:
    """Whatever is asked; the first loop goes on."""
    gate = make_gate(ledger)
    assert (await gate.charge(USER)).credits == 2
    raised: list[BaseException] = []

    def on_another_loop() -> None:
        try:
            asyncio.run(CALLS[name](gate))
        except ConfigurationError as error:
            raised.append(error)

    thread = threading.Thread(target=on_another_loop)
    thread.start()
    await asyncio.to_thread(thread.join)
    assert "another event loop" in str(raised[0])
    assert (await gate.charge(USER)).credits == 1
    await gate.aclose()


def test_loop_after_loop_is_served() -> None:
    """One that has ended is no other: the gate attaches again."""
    gate = make_gate(LossyLedger(Clock()))
    credits = [asyncio.run(gate.charge(USER)).credits for _ in range(3)]
    assert credits == [2, 1, 0]


def test_voids_that_a_loop_leaves_behind_are_kept_in_the_journal() -> None:
    """Its tasks end with it, and what they were to do is not forgotten."""
    ledger, journal = LossyLedger(Clock()), ListJournal()
    gate = make_gate(ledger, journal=journal)

    async def lose_one() -> None:
        ledger.lose(Event.TIMED_OUT)
        with pytest.raises(LedgerUnavailableError):
            await gate.charge(USER)

    asyncio.run(lose_one())
    (entry,) = journal.entries
    assert (entry.is_served, entry.may_be_charged) == (False, True)


def test_a_fork_after_use_is_refused() -> None:
    """Parent and child would talk on one connection."""
    gate = make_gate(LossyLedger(Clock()))
    asyncio.run(gate.charge(USER))
    read_end, write_end = os.pipe()
    child = os.fork()
    if not child:
        try:
            asyncio.run(gate.charge(USER))
            told = b"served"
        except ConfigurationError as error:
            told = str(error).encode()
        os.write(write_end, told)
        os._exit(0)
    os.waitpid(child, 0)
    assert b"forked" in os.read(read_end, 1_000)
    os.close(read_end)
    os.close(write_end)


async def test_a_gate_that_is_closed_says_so_until_it_is_started_again(
    ledger: LossyLedger,
) -> None:
    """On the same loop or another; a lifespan starts it."""
    gate = make_gate(ledger)
    async with gate.lifespan():
        assert (await gate.charge(USER)).credits == 2
    for name, call in CALLS.items():
        if name not in {"start", "aclose"}:
            with pytest.raises(ConfigurationError, match="closed"):
                await call(gate)
    await gate.aclose()

    async def again() -> int:
        async with gate.lifespan():
            return (await gate.charge(USER)).credits

    assert await asyncio.to_thread(asyncio.run, again()) == 1
    await gate.start()
    assert (await gate.charge(USER)).credits == 0


async def test_a_caller_that_waits_for_a_decision_when_the_gate_closes_gets_an_error(
    ledger: LossyLedger,
) -> None:
    """Not by a CancelledError; what was sent is voided by the import."""
    journal = ListJournal()
    gate = make_gate(ledger, journal=journal)
    await gate.charge(USER)
    closed = asyncio.Event()

    async def hang(attempt: Attempt) -> Decision:
        attempt.note_sent(
            attempt.transaction_id or gate_id(), ledger.now_ms(), ledger.now_ms() + 50
        )
        await closed.wait()
        raise AttemptError(Event.TIMED_OUT, "the connection was closed")

    async def close() -> None:
        closed.set()

    ledger.decide = hang  # type: ignore[method-assign]
    ledger.aclose = close  # type: ignore[method-assign]
    waiting = [asyncio.create_task(gate.charge(USER)) for _ in range(3)]
    await asyncio.sleep(0)
    await gate.aclose()
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(outcome, LedgerUnavailableError) for outcome in outcomes)
    assert len(journal.entries) == 3
    assert gate.retries.given_up == 0


async def test_a_caller_that_waits_for_the_start_or_for_postgres_when_the_gate_closes_gets_an_error(
    ledger: LossyLedger,
) -> None:
    """First sight waits for Postgres, and so does the start."""

    is_asked = asyncio.Event()

    class Hanging(MemoryStore):
        async def open(self, user_id: UUID, *, provision: bool) -> User | None:
            is_asked.set()
            await asyncio.sleep(60)
            return await super().open(user_id, provision=provision)

    gate = Gate(ledger, Hanging(), CreditPolicy(), OPTIONS)
    waiting = asyncio.create_task(gate.charge(USER))
    await is_asked.wait()
    await gate.aclose()
    with pytest.raises(LedgerUnavailableError, match="closed"):
        await waiting


async def test_a_gate_that_is_closed_serves_nothing_open(ledger: LossyLedger) -> None:
    """It is a mistake of the app, and no outage."""
    gate = make_gate(ledger, journal=ListJournal())
    await gate.start()
    await gate.aclose()
    with pytest.raises(ConfigurationError, match="closed"):
        await gate.charge(USER, on_failure=FailureMode.OPEN)
