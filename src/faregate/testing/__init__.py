"""For tests of apps: a gate in memory that does what it is told.

    gate = memory_gate(credits=5)
    user = gate.sign_up()
    with gate.answering(Verdict.RATE_LIMITED):
        assert client.get("/").status_code == 429
    assert gate.charged(user) == 0

It decides by the same rules as the gate on Redis; one table of scenarios runs on both. Its time
stands still until a test moves it, and it has no worker: records become rows when history is read.
With pytest, the fixtures of `pytest_faregate` make one for each test.
"""

from faregate.testing.clock import Clock
from faregate.testing.faults import Failure
from faregate.testing.gate import MemoryGate, memory_gate

__all__ = ["Clock", "Failure", "MemoryGate", "memory_gate"]
