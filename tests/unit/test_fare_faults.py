"""Requests that fail in the middle: whatever fails with them, everything goes back, once."""

import asyncio
from uuid import UUID

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from asgi_client import USER, FragileLedger, World, answers, call, http_scope
from clocks import Clock
from faregate import CreditPolicy, CreditTransactionId, HoldAnswer, OnExpiry
from faregate.asgi import Fare, KeyUse, Rule
from faregate.asgi.responder import RefusedError, Responder
from faregate.domain.errors import ConfigurationError, LedgerUnavailableError, OutcomeUnknownError
from faregate.gate import Gate
from waiting import WAIT_S_MAX, until

KEYED = [Rule(key_use=KeyUse.OPTIONAL)]


def amounts(world: World) -> list[int]:
    """All changes of the balance, oldest first."""
    return [record.amount for record in world.ledger.pending.values()]


def spending(*more: int, settles: int | None = None, status: int = 500) -> ASGIApp:
    """An app that adds to its cost, or settles its hold, and then fails."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        fare: Fare = scope["state"]["faregate"]
        for cost in more:
            assert (await fare.add(cost)).allowed
        if settles is not None:
            await fare.settle(settles)
        await answers(status)(scope, receive, send)

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


@pytest.mark.parametrize("actual", [1, 6])
async def test_a_settlement_whose_answer_is_lost_goes_back_with_the_rest(actual: int) -> None:
    """The handler fails by it, and its request costs nothing."""
    world = World(credits=10)
    settle = world.ledger.settle
    lost: list[bool] = []

    async def settle_and_lose(*arguments: object) -> object:
        answer = await settle(*arguments)  # type: ignore[arg-type]
        if not lost:
            lost.append(True)
            raise OutcomeUnknownError("the answer was lost")
        return answer

    world.ledger.settle = settle_and_lose  # type: ignore[method-assign,assignment]
    answer = await call(world.around(spending(settles=actual), rules=[Rule(estimate=4)]))
    assert isinstance(answer.error, OutcomeUnknownError)
    assert await world.credits() == 10


class ShortWorld(World):
    """A gate that keeps what is held at its expiry, if it is told to; its ledger has a clock."""

    def __init__(self, on_expiry: OnExpiry) -> None:
        super().__init__(credits=10)
        self.clock = Clock()
        self.ledger = FragileLedger(now_ms=self.clock)
        policy = CreditPolicy(starting_credits=10, on_expiry=on_expiry)
        self.gate = Gate(self.ledger, self.books, policy)
        self.extended: list[int] = []
        self._extend, self.ledger.extend = self.ledger.extend, self.extend  # type: ignore[method-assign]

    async def extend(self, user_id: UUID, hold_id: CreditTransactionId, ttl_ms: int) -> HoldAnswer:
        """Take a while, which is shorter than the hold lasts."""
        self.extended.append(ttl_ms)
        answer = await self._extend(user_id, hold_id, ttl_ms)
        self.clock.advance(ttl_ms - 1)
        return answer

    def slow(self, status: int) -> ASGIApp:
        """Answer after the hold was to be extended a few times."""

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await until(lambda: len(self.extended) > 3, "the hold is extended")
            await answers(status)(scope, receive, send)

        return app


@pytest.mark.parametrize("on_expiry", list(OnExpiry))
@pytest.mark.parametrize("status", [200, 500])
async def test_a_hold_is_kept_open_while_its_handler_runs(on_expiry: OnExpiry, status: int) -> None:
    """However long that is: then it is settled or, where the handler fails, given back."""
    world = ShortWorld(on_expiry)
    rules = [Rule(estimate=3, hold_ttl_ms=100)]
    answer = await call(world.around(world.slow(status), rules=rules))
    assert answer.status == status
    assert amounts(world) == ([-3] if status == 200 else [-3, 3])


async def test_a_kept_hold_that_expired_all_the_same_is_given_back() -> None:
    """Nobody could extend it, and nobody got anything for it."""
    world = ShortWorld(OnExpiry.KEEP)

    async def away(_user_id: UUID, _hold_id: CreditTransactionId, ttl_ms: int) -> HoldAnswer:
        world.extended.append(ttl_ms)
        world.clock.advance(ttl_ms)
        raise LedgerUnavailableError("away")

    world.ledger.extend = away  # type: ignore[method-assign,assignment]
    rules = [Rule(estimate=3, hold_ttl_ms=100)]
    await call(world.around(world.slow(500), rules=rules))
    assert amounts(world) == [-3, 3]


def upload(*, length: int, key: bytes = b'"one"') -> Scope:
    fields = [(b"content-length", b"%d" % length), (b"idempotency-key", key)]
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
async def test_an_upload_that_breaks_off_is_not_charged_and_may_be_made_again(status: int) -> None:
    """Whatever the app makes of it; the retry with the same key is served."""
    world = World(credits=3)
    app = world.around(reading(status), rules=KEYED)
    part = {"type": "http.request", "body": b"abc", "more_body": True}
    await sent(app, upload(length=10), part)
    assert amounts(world) == [-1, 1]
    whole = {"type": "http.request", "body": b"0123456789", "more_body": False}
    start, *_ = await sent(app, upload(length=10), whole)
    assert start["status"] == 200
    assert amounts(world) == [-1, 1, -1]


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
    assert amounts(world) == [-1]
    start, *_ = await sent(around, upload(length=1), whole)
    assert start["status"] == 409
    assert (b"retry-after", b"1") in start["headers"]


async def test_an_endpoint_that_was_refused_is_not_charged_for_less() -> None:
    """The client has been told of the refusal already."""
    world = World(credits=3)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        responder: Responder = scope["state"]["faregate"]
        for cost in (9, 1):
            with pytest.raises(RefusedError):
                await responder.charge(Rule(cost=cost))
        await answers(200)(scope, receive, send)

    answer = await call(world.around(app, rules=[Rule(is_deferred=True)]))
    assert answer.status == 402
    assert amounts(world) == []


async def test_an_endpoint_is_charged_once_and_before_it_answers() -> None:
    """Two at once, or after the start, are a mistake that costs nobody anything."""
    world = World(credits=9)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        responder: Responder = scope["state"]["faregate"]
        outcomes = await asyncio.gather(
            *(responder.charge(Rule(cost=2)) for _ in range(2)), return_exceptions=True
        )
        assert [type(outcome) for outcome in outcomes] == [Fare, ConfigurationError]
        await answers(500)(scope, receive, send)

    await call(world.around(app, rules=[Rule(is_deferred=True)]))
    assert amounts(world) == [-2, 2]


async def test_a_gate_that_is_found_late_is_checked_when_it_is_found() -> None:
    """A name that would break the fields is never sent."""
    world = World(credits=9)
    policy = CreditPolicy(name="x\r\nset-cookie: a=b", starting_credits=9)
    late = Gate(world.ledger, world.books, policy)
    world.gate = lambda: late  # type: ignore[assignment]
    answer = await call(world.around(answers(200)))
    assert answer.status == 503
    assert not any(b"set-cookie" in name + value for name, value in answer.headers)
    assert amounts(world) == []
    assert await late.balance(USER) is not None
