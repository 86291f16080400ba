"""Fixtures for tests of apps behind a gate. pytest finds them if Faregate is installed.

| fixture             | is                                                                 |
|---------------------|--------------------------------------------------------------------|
| `faregate_gate`     | a gate in memory: `faregate.testing.MemoryGate`, to be mounted     |
| `faregate_user`     | the id of a user of it that has signed up                          |
| `faregate_clock`    | its time, which stands still until it is told to move              |
| `faregate_policies` | what holds for whom; define your own to test with those of your app |

A module of its own that imports Faregate only in fixtures, since pytest loads it in every project.
"""

from typing import TYPE_CHECKING
from uuid import UUID

import pytest

if TYPE_CHECKING:
    from faregate import CreditPolicy, PolicySet
    from faregate.testing import Clock, MemoryGate


@pytest.fixture
def faregate_clock() -> "Clock":
    """A clock that a test advances."""
    from faregate.testing import Clock  # noqa: PLC0415

    return Clock()


@pytest.fixture
def faregate_policies() -> "CreditPolicy | PolicySet | None":
    """The policies: one with three starting credits, unless a project overrides them."""
    return None


@pytest.fixture
def faregate_gate(
    faregate_policies: "CreditPolicy | PolicySet | None", faregate_clock: "Clock"
) -> "MemoryGate":
    """A gate in memory, with no user yet."""
    from faregate.testing import memory_gate  # noqa: PLC0415

    return memory_gate(faregate_policies, clock=faregate_clock)


@pytest.fixture
def faregate_user(faregate_gate: "MemoryGate") -> UUID:
    """The id of a user that exists."""
    return faregate_gate.sign_up()
