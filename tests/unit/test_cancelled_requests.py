"""The middleware: a request that somebody cancels, as a timeout around the gate does."""

import asyncio
from collections.abc import Sequence
from typing import Any

import anyio
import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from asgi_client import World, answers, call, http_scope
from faregate.asgi import KeyUse, Rule
from waiting import WAIT_S_MAX


def halting(running: asyncio.Event, *messages: Message) -> ASGIApp:
    """An app that receives and sends some messages, says so, and goes on until it is cancelled."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        for message in messages:
            await send(message)
        running.set()
        await asyncio.Event().wait()

    return app


async def cancelled(world: World, *messages: Message, **options: Any) -> None:
    running = asyncio.Event()
    app = world.around(halting(running, *messages), rules=options.pop("rules", ()))
    task = asyncio.create_task(call(app, **options))
    await running.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("rules", [(), [Rule(estimate=2)]], ids=["charge", "hold"])
async def test_a_request_that_is_cancelled_before_its_response_is_given_back(
    rules: Sequence[Rule],
) -> None:
    """As by a timeout around the gate, which answers after the refund."""
    world = World()
    await cancelled(world, rules=rules)
    assert await world.credits() == 3
    assert len(world.gate.retries) == 0


async def test_after_a_timeout_around_the_gate_the_retry_with_the_key_is_served() -> None:
    """It is charged then; nothing is in flight any more."""
    world = World()
    rules = [Rule(key_use=KeyUse.REQUIRED)]
    fields = [(b"idempotency-key", b"one")]
    await cancelled(world, rules=rules, scope=http_scope("POST", fields))
    answer = await call(world.around(answers(200), rules=rules), http_scope("POST", fields))
    assert answer.status == 200
    assert world.amounts == [-1, 1, -1]


async def test_a_scope_of_anyio_that_cancels_again_and_again_is_survived() -> None:
    """Each wait within such a scope is cancelled; then it is given back in the background."""
    world = World()

    async def slowly() -> None:
        await asyncio.sleep(0)

    world.ledger.before_refund = slowly
    with anyio.move_on_after(0.01):
        await call(world.around(halting(asyncio.Event())))
    assert await world.gate.retries.join(WAIT_S_MAX)
    assert await world.credits() == 3


async def test_a_request_that_is_cancelled_after_it_was_left_is_paid_for() -> None:
    """Some servers cancel where a client leaves; it could have the work done for free."""
    world = World()
    await cancelled(world, disconnects=True)
    assert world.amounts == [-1]


async def test_a_request_that_is_cancelled_within_its_response_is_paid_for() -> None:
    """The client has got bytes."""
    world = World()
    await cancelled(world, {"type": "http.response.start", "status": 200, "headers": []})
    assert world.amounts == [-1]


async def test_a_gate_that_closes_waits_for_requests_that_are_cancelled() -> None:
    """A server cancels them at its end, and they need some turns of the loop to give back."""
    world, runs = World(), asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        runs.set()
        try:
            await asyncio.Event().wait()
        finally:
            for _ in range(9):
                await asyncio.sleep(0)

    request = asyncio.create_task(call(world.around(slow)))
    await runs.wait()
    request.cancel()
    await world.gate.aclose()
    assert request.cancelled()
    assert world.amounts == [-1, 1]
