"""Overload on routes that are served open: up to a named rate, and refused beyond it."""

import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from faregate import Verdict
from faregate.domain.attempt import Event
from faregate.gate import fallback
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
