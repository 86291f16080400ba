"""A gate in memory for tests of apps, which can force answers and failures.

    gate = memory_gate(credits=5)
    user = gate.sign_up()
    with gate.answering(Verdict.RATE_LIMITED):
        assert client.get("/").status_code == 429
    assert gate.charged(user) == 0

It decides by the same rules as the gate on Redis; the same scenario tables run on both. Its clock
stands still until a test advances it. It has no worker: records become rows when the history is
read. With pytest, the fixtures of `pytest_faregate` make one for each test.
"""

from faregate.testing.clock import Clock
from faregate.testing.faults import Failure
from faregate.testing.gate import MemoryGate, memory_gate

__all__ = ["Clock", "Failure", "MemoryGate", "memory_gate"]
