"""Overload: a refusal by value; on open routes up to a named rate served all the same."""

import time
from contextlib import suppress
from dataclasses import replace
from types import SimpleNamespace

import pytest

from faregate import Verdict
from faregate.domain.attempt import Event
from faregate.domain.errors import OutcomeUnknownError
from faregate.gate import fallback
from faregate.gate.follow_up import RETRY_AFTER_MS
from journals import OPTIONS, Outage


async def test_a_shed_request_is_served_open_up_to_a_rate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By the second; the others are told to come back. Each is in its counts."""
    outage = await Outage.prepare(replace(OPTIONS, open_rate_max=2))
    now_s = 100.0
    clock = SimpleNamespace(monotonic=lambda: now_s, time_ns=time.time_ns)
    monkeypatch.setattr(fallback, "time", clock)
    outage.ledger.lose(*[Event.SHED] * 8, decided=False)
    first = [await outage.charge() for _ in range(4)]
    now_s = 101.0
    second = [await outage.charge() for _ in range(4)]
    for decisions in (first, second):
        assert [one.journaled for one in decisions] == [True, True, False, False]
        assert [one.verdict for one in decisions[2:]] == [Verdict.OVERLOADED] * 2
    assert not any(entry.may_be_charged for entry in outage.journal.entries)
    assert len(outage.journal.entries) == 4
    health = outage.gate.health()
    assert (health.shed, health.served_open, health.undecided) == (8, 4, 0)


async def test_an_outage_has_no_such_rate() -> None:
    """Who cannot be decided for lack of an answer is served as the route says."""
    outage = await Outage.prepare(replace(OPTIONS, open_rate_max=0))
    outage.ledger.is_down = True
    assert all([(await outage.charge()).journaled for _ in range(5)])
    health = outage.gate.health()
    assert (health.shed, health.served_open, health.undecided) == (0, 5, 5)


async def test_a_ledger_that_is_full_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The refusal costs little: no id, no place in the queue, no error."""
    outage = await Outage.prepare()
    monkeypatch.setattr(type(outage.ledger), "is_full", True)
    decisions = [await outage.gate.charge(outage.user_id) for _ in range(3)]
    assert {decision.verdict for decision in decisions} == {Verdict.OVERLOADED}
    assert outage.gate.health().shed == 3
    monkeypatch.undo()
    assert (await outage.gate.charge(outage.user_id)).sequence == 2


async def test_a_shed_request_is_a_refusal_that_says_when_to_come_back() -> None:
    """A value, not an error: nothing was sent, nothing is voided, and the breaker stays closed."""
    outage = await Outage.prepare()
    gate, user_id = outage.gate, outage.user_id
    outage.ledger.lose(*[Event.SHED] * 200, decided=False)
    decisions = [await gate.charge(user_id, cost=2) for _ in range(199)]
    decisions.append((await gate.hold(user_id, 2)).decision)
    assert {(one.verdict, one.amount) for one in decisions} == {(Verdict.OVERLOADED, -2)}
    waits = {one.retry_after_ms for one in decisions}
    assert min(waits) >= RETRY_AFTER_MS
    assert max(waits) <= 2 * RETRY_AFTER_MS
    assert len(waits) > 1, "so that not all come back at once"
    health = gate.health()
    assert (health.shed, health.undecided, health.breaker_opened) == (200, 0, 0)
    assert len(gate.retries) == 0
    assert not outage.ledger.pending


async def test_shed_requests_close_no_breaker_and_open_none() -> None:
    """A row of missing answers goes on over them."""
    outage = await Outage.prepare()
    outage.ledger.lose(Event.TIMED_OUT, Event.SHED, Event.TIMED_OUT, decided=False)
    for _ in range(3):
        with suppress(OutcomeUnknownError):
            await outage.gate.charge(outage.user_id)
    assert outage.gate._session.breakers.of("memory").row == 2
