"""Each invariant can be seen to be broken, on one backend alone."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from clocks import Clock
from contract.watch import Watch
from faregate.domain.request import VoidOutcome
from faregate.domain.transaction import TransactionType
from spec.backends import MemoryBackend, Seen
from spec.driver import Driver, Played
from spec.steps import USERS, Step, charge, refund

ANN = USERS["ann"]


def live(seen: Seen, **change: Any) -> Seen:
    """Change what is live."""
    return replace(seen, live={**seen.live, ANN: replace(seen.live[ANN], **change)})


def record(seen: Seen, **change: Any) -> Seen:
    """Change the record of the step, and what is live with it."""
    changed = replace(seen.new[-1], **change)
    seen = replace(seen, new=[*seen.new[:-1], changed], pending=[*seen.pending[:-1], changed])
    return live(seen, credits=changed.balance_after, sequence=changed.sequence)


BREACHES: dict[str, tuple[str, Callable[[Seen], Seen]]] = {
    "a balance without a record": ("come apart", lambda seen: live(seen, credits=99)),
    "a record that is gone": ("the sum", lambda seen: replace(seen, pending=[])),
    "an id for the second time": ("one id", lambda seen: record(seen, id=seen.pending[0].id)),
    "a number that is left out": ("a gap", lambda seen: record(seen, sequence=4)),
    "a balance that does not follow": ("the sum", lambda seen: record(seen, balance_after=5)),
    "an allowance that does not follow": (
        "broken allowance",
        lambda seen: record(seen, allowance_amount=-1),
    ),
    "a charge below zero": (
        "below zero",
        lambda seen: record(seen, amount=-9, balance_after=-5),
    ),
    "a refund of more than was taken": (
        "given back",
        lambda seen: record(
            seen,
            amount=2,
            balance_after=6,
            type=TransactionType.REFUND,
            refund_of=seen.pending[0].id,
        ),
    ),
}


async def watched() -> tuple[Watch, Driver, Step, Played, Seen]:
    """Charge one credit, and watch; then charge another."""
    driver = Driver(MemoryBackend(Clock()))
    await driver.backend.start()
    watch = Watch(driver)
    first, second = charge("first", 1), charge("second", 1)
    watch.check(first, await driver.play(first), await driver.backend.look())
    return watch, driver, second, await driver.play(second), await driver.backend.look()


@pytest.mark.parametrize("name", BREACHES)
def test_a_breach_is_seen(name: str) -> None:
    """The sound history passes, the altered one does not."""
    message, breach = BREACHES[name]
    watch, _, step, played, seen = asyncio.run(watched())
    watch.check(step, played, seen)
    watch, _, step, played, seen = asyncio.run(watched())
    broken = breach(seen)
    with pytest.raises(AssertionError, match=message):
        watch.check(step, played, broken)


def test_a_wrong_answer_is_detected() -> None:
    """A retry that was charged, a refusal that writes, and what is served for nothing."""
    for message, change in (
        ("a retry was charged", {"repeated": True}),
        ("a refusal has written", {"answer": VoidOutcome.REFUSED}),
    ):
        watch, _, step, played, seen = asyncio.run(watched())
        with pytest.raises(AssertionError, match=message):
            watch.check(step, replace(played, **change), seen)


def test_a_request_that_is_served_for_free_is_detected() -> None:
    """A retry that is allowed after all was given back."""

    async def serve() -> None:
        watch, driver, step, played, seen = await watched()
        watch.check(step, played, seen)
        back = refund("back", of="second")
        watch.check(back, await driver.play(back), await driver.backend.look())
        watch.check(step, replace(played, repeated=True), await driver.backend.look())

    with pytest.raises(AssertionError, match="for free"):
        asyncio.run(serve())
