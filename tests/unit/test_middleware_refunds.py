"""The middleware: when a charge is given back, and when it stands."""

import asyncio
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from asgi_client import USER, World, answers, call, http_scope
from faregate.asgi import FaregateMiddleware
from faregate.domain.errors import LedgerUnavailableError, OutcomeUnknownError
from waiting import WAIT_S_MAX


class BrokenAppError(Exception):
    """What our apps raise."""


def raises(*messages: Message) -> ASGIApp:
    """An app that sends some messages and then fails."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)
        raise BrokenAppError

    return app


async def silent(scope: Scope, receive: Receive, send: Send) -> None:
    """An app that returns without an answer."""


async def test_a_failure_of_the_app_is_given_back_once() -> None:
    """A 500 costs nothing, says so in its field, and leaves both records with the reason."""
    world = World(credits=3)
    answer = await call(world.around(answers(500, b"a", b"b")))
    assert (answer.status, answer.body) == (500, b"ab")
    assert answer.header(b"ratelimit") == b'"credits";r=3'
    assert await world.credits() == 3
    [refund] = world.refunds
    assert (refund.amount, refund.metadata) == (1, {"status": 500})
    assert refund.description == "refund: the app answered 500"


async def test_the_refund_is_recorded_before_the_response_starts() -> None:
    """A client that reads the status can rely on the refund."""
    world = World()
    recorded: list[tuple[str, int]] = []

    def look(message: Message) -> None:
        recorded.append((message["type"], len(world.refunds)))

    await call(world.around(answers(503)), on_send=look)
    assert recorded == [("http.response.start", 1), ("http.response.body", 1)]


@pytest.mark.parametrize("status", [400, 404, 405, 422, 499, 501])
async def test_nobody_pays_for_an_error(status: int) -> None:
    """Whoever is to blame for it: the client did not get what it asked for."""
    world = World()
    answer = await call(world.around(answers(status)))
    assert answer.header(b"ratelimit") == b'"credits";r=3'
    assert [refund.metadata for refund in world.refunds] == [{"status": status}]


@pytest.mark.parametrize("status", [200, 204, 302, 304])
async def test_other_answers_are_paid_for(status: int) -> None:
    """The app did its work."""
    world = World()
    answer = await call(world.around(answers(status)))
    assert answer.header(b"ratelimit") == b'"credits";r=2'
    assert world.refunds == []


async def test_the_statuses_to_give_back_can_be_chosen() -> None:
    """A list replaces the default; what it does not name is paid for."""
    for status, refunds in ((404, 1), (429, 1), (500, 0)):
        world = World()
        await call(world.around(answers(status), refund_statuses=["404", range(420, 430)]))
        assert len(world.refunds) == refunds


async def test_an_exception_before_the_response_is_given_back_and_goes_on() -> None:
    """The server answers 500 itself, after the refund."""
    world = World()
    answer = await call(world.around(raises(), refund_statuses=[]))
    assert isinstance(answer.error, BrokenAppError)
    assert answer.messages == []
    [refund] = world.refunds
    assert refund.metadata == {"exception": "BrokenAppError"}


async def test_an_exception_after_the_start_is_paid_for() -> None:
    """The client has got bytes, and no header is changed under way."""
    world = World()
    start: Message = {"type": "http.response.start", "status": 200, "headers": []}
    answer = await call(world.around(raises(start)))
    assert isinstance(answer.error, BrokenAppError)
    assert answer.status == 200
    assert world.refunds == []


async def test_an_exception_after_a_refunded_start_is_given_back_once() -> None:
    """The status has settled it."""
    world = World()
    start: Message = {"type": "http.response.start", "status": 500}
    answer = await call(world.around(raises(start)))
    assert answer.header(b"ratelimit") == b'"credits";r=3'
    assert len(world.refunds) == 1


async def test_no_answer_at_all_is_given_back() -> None:
    """The client got nothing but what the server makes up."""
    world = World()
    await call(world.around(silent))
    [refund] = world.refunds
    assert refund.description == "refund: the app did not answer"


async def test_only_the_first_start_is_touched() -> None:
    """All other messages pass as they are, before and after it, to the very object."""
    world = World()
    sent: list[Message] = [
        {"type": "http.response.early_hint", "links": []},
        {"type": "http.response.start", "status": 200, "headers": []},
        {"type": "http.response.start", "status": 500, "headers": []},
        {"type": "http.response.trailers", "headers": []},
    ]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in sent:
            await send(message)

    answer = await call(world.around(app))
    passed = [a is b for a, b in zip(sent, answer.messages, strict=True)]
    assert passed == [True, False, True, True]
    assert sent[1]["headers"] == []
    assert world.refunds == []


async def test_a_stream_passes_chunk_by_chunk() -> None:
    """Each chunk has arrived before the app makes the next one: nothing is held back."""
    world = World()
    arrived: list[bytes] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 500})
        for number in range(3):
            await send({"type": "http.response.body", "body": b"%d" % number, "more_body": True})
            assert len(arrived) == number + 1

    def arrive(message: Message) -> None:
        if message["type"] == "http.response.body":
            arrived.append(message["body"])

    answer = await call(world.around(app), on_send=arrive)
    assert answer.error is None
    assert arrived == [b"0", b"1", b"2"]


@pytest.mark.parametrize("ending", [raises(), answers(500), silent], ids=["raises", "500", "none"])
async def test_a_disconnect_is_no_refund(ending: ASGIApp) -> None:
    """Once the app knows that the client left, no ending of its own gives anything back."""
    world = World()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert (await receive())["type"] == "http.disconnect"
        await ending(scope, receive, send)

    await call(world.around(app), disconnects=True)
    assert await world.credits() == 2
    assert world.refunds == []


async def test_reading_the_body_is_no_disconnect() -> None:
    """An app that reads its request and fails is refunded."""
    world = World()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await raises()(scope, receive, send)

    await call(world.around(app))
    assert len(world.refunds) == 1


async def test_a_refund_that_is_cancelled_is_made_in_the_background() -> None:
    """It was due before the cancellation, so it is made once all the same."""
    world = World()
    asked, may_go_on = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        asked.set()
        await may_go_on.wait()

    world.ledger.before_refund = wait
    task = asyncio.create_task(call(world.around(answers(500))))
    await asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    may_go_on.set()
    assert await world.gate.retries.join(WAIT_S_MAX)
    assert len(world.refunds) == 1


@pytest.mark.parametrize("error", [LedgerUnavailableError, OutcomeUnknownError])
@pytest.mark.parametrize("app", [answers(500), raises()], ids=["500", "raises"])
async def test_a_refund_that_fails_does_not_hold_up_the_answer(
    error: type[Exception], app: ASGIApp, caplog: pytest.LogCaptureFixture
) -> None:
    """The client gets its answer, the operator a warning, and the user the credit a bit later."""
    world = World()
    world.ledger.refund_errors.append(error("away"))
    answer = await call(world.around(app))
    if answer.error is None:
        assert answer.status == 500
        assert answer.header(b"ratelimit") == b'"credits";r=2'
    else:
        assert isinstance(answer.error, BrokenAppError)
    assert "refund continues in the background" in caplog.text
    assert await world.gate.retries.join(WAIT_S_MAX)
    assert len(world.refunds) == 1
    assert await world.credits() == 3


async def test_a_refund_that_a_full_stream_refuses_is_made_once_there_is_room() -> None:
    """The charge took the last place; its refund waits until the worker has made some."""
    world = World()
    world.ledger.is_backlogged = True
    answer = await call(world.around(answers(500)))
    assert answer.header(b"ratelimit") == b'"credits";r=2'
    assert len(world.gate.retries) == 1
    world.ledger.is_backlogged = False
    assert await world.gate.retries.join(WAIT_S_MAX)
    assert await world.credits() == 3


@pytest.mark.parametrize("amount", [None, 1])
async def test_a_refund_by_the_app_is_not_repeated(amount: int | None) -> None:
    """A handler may refund by itself; a failure afterwards gives back what is left."""
    world = World(credits=5, cost=3)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        decision = scope["state"]["faregate"].decision
        own = decision.transaction_id.derive("part", decision.transaction_id.value)
        await world.gate.refund_by_id(
            USER, decision.transaction_id, amount=amount, transaction_id=own
        )
        await answers(500)(scope, receive, send)

    answer = await call(world.around(app))
    assert answer.header(b"ratelimit") == b'"credits";r=5'
    assert sum(refund.amount for refund in world.refunds) == 3


async def test_a_request_that_costs_nothing_is_not_refunded() -> None:
    """There is nothing to give back, so the ledger is not even asked."""
    world = World(cost=0)
    world.ledger.refund_errors.append(AssertionError("asked"))
    answer = await call(world.around(answers(500)))
    assert answer.error is None
    assert answer.header(b"ratelimit") == b'"credits";r=3'
    assert world.refunds == []


async def test_an_error_inside_starlette_is_given_back() -> None:
    """Starlette answers 500 outside of the middleware, which has seen the exception."""
    world = World()

    async def fail(request: Request) -> Any:
        assert request.state.faregate.allowed
        raise BrokenAppError

    app = Starlette(
        routes=[Route("/", fail)],
        middleware=[Middleware(FaregateMiddleware, gate=world.gate, identify=lambda _: USER)],
    )
    answer = await call(app, http_scope())
    assert answer.status == 500
    assert len(world.refunds) == 1
