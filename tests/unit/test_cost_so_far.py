"""The middleware and holds whose handlers say what their requests have cost so far."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from asgi_client import World, answers, call
from faregate.asgi import ChargeContext, Rule
from faregate.domain.errors import InvalidArgumentError
from waiting import WAIT_S_MAX

RULES = [Rule(estimate=5)]


async def fail() -> None:
    raise RuntimeError("in the middle of a stream")


async def be_cancelled() -> None:
    raise asyncio.CancelledError


async def be_cancelled_again_and_again() -> None:
    with anyio.CancelScope() as scope:
        scope.cancel()
        await anyio.lowlevel.checkpoint()


async def end() -> None:
    """The handler returns."""


def streaming(cost: int, ending: Callable[[], Awaitable[None]]) -> ASGIApp:
    """An app that begins a response, says what it has cost, and ends in some way."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        charge: ChargeContext = scope["state"]["faregate"]
        charge.cost_so_far = 0
        charge.cost_so_far = cost
        await send({"type": "http.response.body", "body": b"part", "more_body": True})
        await ending()

    return app


def settling_slowly() -> World:
    """A world whose settlements take a turn of the event loop, so that they can be cancelled."""
    world = World(credits=10)
    settle = world.ledger.settle

    async def settle_slowly(*arguments: Any) -> Any:
        await asyncio.sleep(0)
        return await settle(*arguments)

    world.ledger.settle = settle_slowly  # type: ignore[assignment]
    return world


@pytest.mark.parametrize("ending", [end, fail, be_cancelled, be_cancelled_again_and_again])
@pytest.mark.parametrize("cost", [0, 2, 5, 7])
async def test_a_hold_is_settled_by_its_cost_so_far_however_its_request_ends(
    cost: int, ending: Callable[[], Awaitable[None]]
) -> None:
    """Less than the estimate, or more."""
    world = World(credits=10)
    with suppress(asyncio.CancelledError):
        await call(world.around(streaming(cost, ending), rules=RULES))
    assert sum(world.amounts) == -cost


async def test_a_scope_of_anyio_around_the_gate_settles_by_the_cost_so_far() -> None:
    """It cancels each wait of the middleware, too: then it is done in the background."""
    world = settling_slowly()
    with anyio.CancelScope() as scope:

        async def cancel() -> None:
            scope.cancel()
            await anyio.lowlevel.checkpoint()

        await call(world.around(streaming(2, cancel), rules=RULES))
    assert await world.gate.retries.join(WAIT_S_MAX)
    assert world.amounts == [-5, 3]


async def test_a_settlement_that_is_cancelled_is_not_made_by_the_estimate_instead() -> None:
    """As in the `finally` of a stream whose client has left: the handler has said the cost."""
    world = settling_slowly()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        with anyio.CancelScope() as cancelling:
            cancelling.cancel()
            await scope["state"]["faregate"].settle(2)
        await send({"type": "http.response.body"})

    await call(world.around(app, rules=RULES))
    assert await world.gate.retries.join(WAIT_S_MAX)
    assert world.amounts == [-5, 3]


async def test_a_client_that_leaves_before_the_first_part_pays_the_cost_so_far() -> None:
    """Not the estimate, though its request has arrived: some servers cancel the handler then."""
    world = World(credits=10)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"]["faregate"].cost_so_far = 1
        await receive()
        assert (await receive())["type"] == "http.disconnect"
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await call(world.around(app, rules=RULES), disconnects=True)
    assert world.amounts == [-5, 4]


async def test_a_websocket_connection_has_the_cost_of_its_rule() -> None:
    """It is over when its client leaves."""
    world, sent = World(credits=10), list[Message]()
    incoming: list[Message] = [
        {"type": "websocket.connect"},
        {"type": "websocket.disconnect", "code": 1001},
    ]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        scope["state"]["faregate"].cost_so_far = 2
        await receive()

    async def receive() -> Message:
        return incoming.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "websocket", "path": "/", "headers": []}
    await world.around(app, rules=RULES)(scope, receive, send)
    assert [message["type"] for message in sent] == ["websocket.accept"]
    assert world.amounts == [-5, 3]


async def test_an_error_costs_nothing_whatever_it_had_cost_so_far() -> None:
    """Its status says that the client was not served."""
    world = World(credits=10)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"]["faregate"].cost_so_far = 3
        await answers(502)(scope, receive, send)

    await call(world.around(app, rules=RULES))
    assert sum(world.amounts) == 0


@pytest.mark.parametrize("cost", [-1, 1.5, "2", True])
async def test_a_cost_so_far_is_checked_when_it_is_set(cost: Any) -> None:
    """Not at the end of the request, where nobody would hear of it."""
    world = World(credits=10)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        charge = scope["state"]["faregate"]
        charge.cost_so_far = 2
        with pytest.raises(InvalidArgumentError):
            charge.cost_so_far = cost
        assert charge.cost_so_far == 2
        await answers(200)(scope, receive, send)

    assert (await call(world.around(app, rules=RULES))).status == 200
    assert sum(world.amounts) == -2
