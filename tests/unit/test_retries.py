"""What could not be done at once is tried again, a few at a time, and never dropped in silence."""

import asyncio
from functools import partial

import pytest

from faregate.domain.errors import LedgerUnavailableError
from faregate.gate.retries import RUNNING_MAX, RetryQueue
from waiting import WAIT_S_MAX


async def test_a_few_are_tried_at_a_time() -> None:
    """However many wait, so that requests find connections."""
    running, most, done = 0, 0, 0

    async def act() -> bool:
        nonlocal running, most, done
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running -= 1
        done += 1
        return True

    retries = RetryQueue()
    for number in range(5 * RUNNING_MAX):
        retries.submit(f"number {number}", act)
    assert await retries.join(WAIT_S_MAX)
    assert (most, done) == (RUNNING_MAX, 5 * RUNNING_MAX)


async def test_a_failing_action_makes_room_while_it_waits() -> None:
    """Its pauses hold nobody up."""

    async def fail() -> bool:
        raise LedgerUnavailableError("down")

    async def act() -> bool:
        return True

    retries = RetryQueue()
    for number in range(2 * RUNNING_MAX):
        retries.submit(f"number {number}", fail)
    await asyncio.sleep(0)
    done = asyncio.Event()

    async def note() -> bool:
        done.set()
        return True

    retries.submit("last", note)
    await asyncio.wait_for(done.wait(), WAIT_S_MAX)
    retries.submit("more", act)
    await retries.aclose(0.1)
    assert retries.given_up == 2 * RUNNING_MAX


@pytest.mark.parametrize("is_kept", [True, False])
async def test_given_up_actions_are_journaled_or_counted(
    caplog: pytest.LogCaptureFixture, *, is_kept: bool
) -> None:
    """For whatever reason: closed meanwhile, closed before, too many, too long."""

    async def never() -> bool:
        return False

    kept: list[str] = []

    def keep(name: str) -> bool:
        kept.append(name)
        return is_kept

    retries = RetryQueue(length_max=2, tries_s_max=0.01)
    retries.submit("too long", never, partial(keep, "too long"))
    assert await retries.join(WAIT_S_MAX)
    retries._tries_s_max = 60
    for name in ("meanwhile", "another", "too many"):
        retries.submit(name, never, partial(keep, name))
    await retries.aclose(0.01)
    retries.submit("before", never, partial(keep, "before"))
    names = {"too long", "meanwhile", "another", "too many", "before"}
    assert set(kept) == names
    assert retries.given_up == (0 if is_kept else 5)
    assert all(any(name in record.getMessage() for record in caplog.records) for name in names)
