"""Requests that fail in the middle: whatever fails with them, everything goes back, once."""

import asyncio

import pytest
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from asgi_client import USER, World, answers, call, http_scope
from faregate import CreditPolicy
from faregate.asgi import ChargeContext, KeyUse, Rule
from faregate.asgi.body import BODY_BYTES_MAX
from faregate.asgi.deferred import ChargeRefusedError, DeferredCharge
from faregate.domain.attempt import Attempt
from faregate.domain.decision import Decision
from faregate.domain.errors import ConfigurationError, LedgerUnavailableError
from faregate.gate import Gate
from waiting import WAIT_S_MAX

KEYED = [Rule(key_use=KeyUse.OPTIONAL)]


def spending(*more: int) -> ASGIApp:
    """An app that adds to its cost, and then fails."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        charge: ChargeContext = scope["state"]["faregate"]
        for cost in more:
            assert (await charge.add(cost)).allowed
        await answers(500)(scope, receive, send)

    return app


@pytest.mark.parametrize("failures", [1, 2, 3])
async def test_one_refund_that_fails_keeps_no_other_from_being_made(failures: int) -> None:
    """Each part is tried, and what fails is made in the background."""
    world = World(credits=10)
    world.ledger.refund_errors += [LedgerUnavailableError("away") for _ in range(failures)]
    answer = await call(world.around(spending(2, 3)))
    assert answer.status == 500
    assert await world.gate.retries.join(WAIT_S_MAX)
    assert await world.credits() == 10
    assert sorted(refund.amount for refund in world.refunds) == [1, 2, 3]


async def test_a_refund_that_is_cancelled_leaves_the_others_to_the_background() -> None:
    """The server gives up; nobody has paid for what was not answered."""
    world = World(credits=10)
    asked, may_go_on = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        asked.set()
        await may_go_on.wait()

    world.ledger.before_refund = wait
    task = asyncio.create_task(call(world.around(spending(2, 3))))
    await asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    may_go_on.set()
    assert await world.gate.retries.join(WAIT_S_MAX)
    assert await world.credits() == 10
    assert sorted(refund.amount for refund in world.refunds) == [1, 2, 3]


def upload(*, length: int) -> Scope:
    fields = [(b"content-length", b"%d" % length), (b"idempotency-key", b'"one"')]
    return http_scope("POST", fields)


async def sent(app: ASGIApp, scope: Scope, *messages: Message) -> list[Message]:
    """What is sent to a client who sends these messages, and then goes away."""
    incoming, outgoing = list(messages), []

    async def receive() -> Message:
        return incoming.pop(0) if incoming else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        outgoing.append(message)

    await app(scope, receive, send)
    return outgoing


def reading(status_if_broken: int) -> ASGIApp:
    """An app that reads its body, and answers by whether it has it all."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (message := await receive())["type"] == "http.request":
            if not message.get("more_body"):
                await answers(200)(scope, receive, send)
                return
        await answers(status_if_broken)(scope, receive, send)

    return app


@pytest.mark.parametrize("status", [400, 500])
async def test_a_long_upload_that_breaks_off_is_given_back_and_may_be_made_again(
    status: int,
) -> None:
    """Whatever the app makes of it; the retry with the same key is served."""
    world = World(credits=3)
    app = world.around(reading(status), rules=KEYED)
    length = BODY_BYTES_MAX + 1
    part = {"type": "http.request", "body": b"abc", "more_body": True}
    await sent(app, upload(length=length), part)
    assert world.amounts == [-1, 1]
    start, *_ = await sent(app, upload(length=length), {"type": "http.request", "body": b"all"})
    assert start["status"] == 200
    assert world.amounts == [-1, 1, -1]


async def test_an_upload_without_a_length_that_breaks_off_is_given_back() -> None:
    """HTTP/2 announces no body; the app was waiting for it when the client left."""
    for messages in ([], [{"type": "http.request", "body": b"abc", "more_body": True}]):
        world, waits = World(), asyncio.Event()
        incoming: list[Message] = [*messages]

        async def receive(
            incoming: list[Message] = incoming, waits: asyncio.Event = waits
        ) -> Message:
            if incoming:
                return incoming.pop(0)
            asyncio.get_running_loop().call_later(0.01, waits.set)
            await waits.wait()
            return {"type": "http.disconnect"}

        async def send(_: Message) -> None: ...

        await world.around(reading(400))(http_scope("POST"), receive, send)
        assert world.amounts == [-1, 1]


@pytest.mark.parametrize("status", [400, 500])
async def test_a_body_that_nobody_read_may_have_arrived(status: int) -> None:
    """A client that leaves while its work is done has paid, whatever the app does then."""
    world = World()
    await sent(world.around(reading(status)), http_scope("POST", [(b"content-length", b"9")]))
    assert world.amounts == [-1]


async def test_polling_for_a_disconnect_does_not_wait_for_the_body() -> None:
    """Starlette cancels such a look at once; the body may have arrived after it."""
    world, has_left = World(), asyncio.Event()

    async def receive() -> Message:
        await has_left.wait()
        return {"type": "http.disconnect"}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        assert not await request.is_disconnected()
        has_left.set()
        assert await request.is_disconnected()
        raise RuntimeError

    async def send(_: Message) -> None: ...

    with pytest.raises(RuntimeError):
        await world.around(app)(http_scope("POST"), receive, send)
    assert world.amounts == [-1]


async def test_a_failure_after_a_whole_request_completes_no_key() -> None:
    """The client went away, so its charge stands; a retry is not told that it was served."""
    world = World(credits=3)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive())["type"] == "http.request":
            pass
        await answers(503)(scope, receive, send)

    whole = {"type": "http.request", "body": b"0", "more_body": False}
    around = world.around(app, rules=KEYED)
    await sent(around, upload(length=1), whole)
    assert world.amounts == [-1]
    start, *_ = await sent(around, upload(length=1), whole)
    assert start["status"] == 409
    assert (b"retry-after", b"1") in start["headers"]


async def test_an_endpoint_that_was_refused_is_not_charged_for_less() -> None:
    """The client has been told of the refusal already."""
    world = World(credits=3)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        deferred: DeferredCharge = scope["state"]["faregate"]
        for cost in (9, 1):
            with pytest.raises(ChargeRefusedError):
                await deferred.charge(Rule(cost=cost))
        await answers(200)(scope, receive, send)

    answer = await call(world.around(app, rules=[Rule(is_deferred=True)]))
    assert answer.status == 402
    assert world.amounts == []


async def test_an_endpoint_is_charged_once_and_before_it_answers() -> None:
    """Two at once, or after the start, are a mistake that costs nobody anything."""
    world = World(credits=9)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        deferred: DeferredCharge = scope["state"]["faregate"]
        outcomes = await asyncio.gather(
            *(deferred.charge(Rule(cost=2)) for _ in range(2)), return_exceptions=True
        )
        assert [type(outcome) for outcome in outcomes] == [ChargeContext, ConfigurationError]
        await answers(500)(scope, receive, send)

    await call(world.around(app, rules=[Rule(is_deferred=True)]))
    assert world.amounts == [-2, 2]


@pytest.mark.parametrize("rule", [Rule(is_deferred=True), Rule(cost=0)], ids=["charge", "add"])
async def test_a_charge_that_is_decided_after_its_request_has_failed_is_refunded(
    rule: Rule, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An app may charge in a task, and fail before the charge is decided."""
    world = World(credits=9)
    decide, has_failed = world.ledger.decide, asyncio.Event()
    charging: list[asyncio.Task[object]] = []

    async def decide_late(attempt: Attempt) -> Decision:
        await has_failed.wait()
        return await decide(attempt)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        charge = scope["state"]["faregate"]
        monkeypatch.setattr(world.ledger, "decide", decide_late)
        charged = charge.charge(Rule(cost=2)) if rule.is_deferred else charge.add(2)
        charging.append(asyncio.create_task(charged))
        await asyncio.sleep(0)
        raise RuntimeError

    await call(world.around(app, rules=[rule]))
    assert world.amounts == []
    has_failed.set()
    await asyncio.wait(charging)
    assert charging[0].exception() is None or rule.is_deferred
    assert world.amounts == [-2, 2]


async def test_a_gate_that_is_found_late_is_checked_when_it_is_found() -> None:
    """A name that would break the fields is never sent."""
    world = World(credits=9)
    policy = CreditPolicy(name="x\r\nset-cookie: a=b", starting_credits=9)
    late = Gate(world.ledger, world.store, policy)
    world.gate = lambda: late  # type: ignore[assignment]
    answer = await call(world.around(answers(200)))
    assert answer.status == 503
    assert not any(b"set-cookie" in name + value for name, value in answer.headers)
    assert world.amounts == []
    assert await late.balance(USER) is not None
