"""The middleware and holds: kept open, settled or given back whatever fails, and refused."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from asgi_client import USER, World, answers, call
from faregate import CreditPolicy, OnExpiry
from faregate.asgi import ChargeContext, Rule
from faregate.domain.errors import LedgerUnavailableError
from lossy_ledger import Clock
from waiting import WAIT_S_MAX


async def test_a_request_that_needs_held_credits_is_asked_to_retry_soon() -> None:
    """429 and not 402: the balance suffices once the other request is settled."""
    world = World(credits=3, cost=2)
    app = world.around(answers(200))
    hold = await world.gate.hold(USER, 3)
    refused = await call(app)
    assert refused.status == 429
    assert refused.header(b"retry-after") == b"1"
    assert refused.header(b"ratelimit") == b'"credits";r=0'
    assert json.loads(refused.body)["code"] == "credits_held"
    await world.gate.settle(hold, 1)
    assert (await call(app)).status == 200


def lose_answer(world: World) -> None:
    """The ledger settles, and its answer is lost."""
    world.ledger.lost["settle"] = 1


def lose_request(world: World) -> None:
    """The settlement does not reach the ledger at first."""
    settle = world.ledger.settle
    failures = [LedgerUnavailableError("away")]

    async def settle_again(*arguments: Any) -> Any:
        if failures:
            raise failures.pop()
        return await settle(*arguments)

    world.ledger.settle = settle_again  # type: ignore[assignment]


@pytest.mark.parametrize("lose", [lose_answer, lose_request])
@pytest.mark.parametrize("actual", [1, 6])
async def test_a_settlement_without_an_answer_goes_back_with_the_rest(
    actual: int, lose: Callable[[World], None]
) -> None:
    """Whether it was made or not: its request fails, and costs nothing."""
    world = World(credits=10)
    lose(world)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert (await scope["state"]["faregate"].settle(actual)).is_pending
        await answers(500)(scope, receive, send)

    answer = await call(world.around(app, rules=[Rule(estimate=4)]))
    assert (answer.status, answer.error) == (500, None)
    assert await world.gate.retries.join(WAIT_S_MAX)
    assert await world.credits() == 10


@pytest.mark.parametrize("actual", [1, 6])
async def test_an_outage_between_settlement_and_failure_takes_nothing(actual: int) -> None:
    """Redis goes away while the handler runs, and its request fails: all is given back, once."""
    world = World(credits=10)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        world.ledger.is_down = True
        assert (await scope["state"]["faregate"].settle(actual)).is_pending
        await answers(500)(scope, receive, send)

    answer = await call(world.around(app, rules=[Rule(estimate=4)]))
    assert answer.status == 500
    world.ledger.is_down = False
    assert await world.gate.retries.join(WAIT_S_MAX)
    assert await world.credits() == 10
    usage = await world.gate.usage(USER)
    assert usage is not None
    assert usage.held == 0


async def test_a_settlement_that_is_made_later_does_not_break_a_stream() -> None:
    """The client has its 200; the handler is told that its settlement is under way."""
    world = World(credits=10)
    pending: list[bool] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        charge: ChargeContext = scope["state"]["faregate"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"first", "more_body": True})
        world.ledger.is_down = True
        pending.append((await charge.settle(1)).is_pending)
        assert charge.credits == 6
        await send({"type": "http.response.body", "body": b"last"})

    answer = await call(world.around(app, rules=[Rule(estimate=4)]))
    assert (answer.status, answer.body, answer.error) == (200, b"firstlast", None)
    assert pending == [True]
    world.ledger.is_down = False
    assert await world.gate.retries.join(WAIT_S_MAX)
    assert world.amounts == [-4, 3]


class Extensions:
    """Extensions of holds, by which time passes: more than half of a lifetime with each."""

    def __init__(self, on_expiry: OnExpiry) -> None:
        self.clock = Clock()
        policy = CreditPolicy(starting_credits=10, on_expiry=on_expiry)
        self.world = World(policy, now_ms=self.clock)
        self._extend, self.world.ledger.extend = self.world.ledger.extend, self.extend  # type: ignore[assignment]
        self.is_away = False
        self._count, self._more = 0, asyncio.Event()

    async def extend(self, *arguments: Any) -> Any:
        """Extend a hold as the ledger does, unless it is away; then let time pass."""
        try:
            if self.is_away:
                raise LedgerUnavailableError("away")
            return await self._extend(*arguments)
        finally:
            self.clock.ms += 60
            self._count += 1
            self._more.set()

    def app(self, status: int, count: int) -> ASGIApp:
        """An app that answers after so many extensions."""

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            while self._count < count:
                self._more.clear()
                await self._more.wait()
            await answers(status)(scope, receive, send)

        return app


@pytest.mark.parametrize("on_expiry", list(OnExpiry))
@pytest.mark.parametrize("status", [200, 500])
async def test_a_hold_stays_open_while_its_handler_runs(on_expiry: OnExpiry, status: int) -> None:
    """However long that is: then it is settled or, where the handler fails, given back."""
    extensions = Extensions(on_expiry)
    rules = [Rule(estimate=3, hold_ttl_ms=100)]
    answer = await call(extensions.world.around(extensions.app(status, 4), rules=rules))
    assert answer.status == status
    assert extensions.world.amounts == ([-3] if status == 200 else [-3, 3])


async def test_a_kept_hold_that_expired_after_a_lost_answer_is_given_back() -> None:
    """It could not be extended, and its client got nothing for it."""
    extensions = Extensions(OnExpiry.KEEP)
    extensions.is_away = True
    rules = [Rule(estimate=3, hold_ttl_ms=100)]
    await call(extensions.world.around(extensions.app(500, 2), rules=rules))
    assert extensions.world.amounts == [-3, 3]


async def test_a_hold_outlives_an_extension_that_is_not_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The next one comes before it expires: the time that passes is that between extensions."""
    clock, is_extended = Clock(), asyncio.Event()
    world = World(credits=10, now_ms=clock)
    extend, sleep, failures = world.ledger.extend, asyncio.sleep, [LedgerUnavailableError("away")]

    async def extend_later(*arguments: Any) -> Any:
        if failures:
            raise failures.pop()
        is_extended.set()
        return await extend(*arguments)

    async def let_time_pass(seconds: float) -> None:
        clock.ms += int(seconds * 1_000)
        await sleep(0)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await is_extended.wait()
        await scope["state"]["faregate"].settle(1)
        await answers(200)(scope, receive, send)

    world.ledger.extend = extend_later  # type: ignore[assignment]
    monkeypatch.setattr(asyncio, "sleep", let_time_pass)
    await call(world.around(app, rules=[Rule(estimate=3, hold_ttl_ms=30_000)]))
    assert world.amounts == [-3, 2]
