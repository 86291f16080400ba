"""What a handler can do about its charge, and what becomes of it when the request fails."""

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from asgi_client import USER, World, answers, call, http_scope
from faregate.asgi import ChargeContext, KeyUse, Rule
from faregate.domain.decision import Verdict
from faregate.domain.errors import InvalidArgumentError
from faregate.domain.transaction import TransactionType
from waiting import WAIT_S_MAX

HELD = [Rule(estimate=4)]
KEYED = [Rule(key_use=KeyUse.OPTIONAL, replay_bytes_max=1_000)]


def handler(*steps: str, status: int = 200) -> ASGIApp:
    """An app that does some steps with its charge, and then answers or raises."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        charge: ChargeContext = scope["state"]["faregate"]
        for step in steps:
            name, _, number = step.partition(" ")
            if name == "settle":
                await charge.settle(int(number))
            elif name == "add":
                assert (await charge.add(int(number))).allowed
            elif name == "refund":
                await charge.refund(int(number) if number else None)
            elif name == "cancel":
                await charge.cancel()
            else:
                raise RuntimeError(step)
        await answers(status)(scope, receive, send)

    return app


@pytest.mark.parametrize(
    ("rules", "steps", "status", "changes"),
    [
        (HELD, ["settle 1"], 200, [-4, 3]),
        (HELD, ["settle 6"], 200, [-4, -2]),
        (HELD, ["cancel"], 200, [-4, 4]),
        # A handler that says nothing has cost the estimate.
        (HELD, [], 200, [-4]),
        (HELD, [], 500, [-4, 4]),
        (HELD, ["raise"], None, [-4, 4]),
        # What was settled, and what was lacking, goes back, too.
        (HELD, ["settle 1"], 500, [-4, 3, 1]),
        (HELD, ["settle 6"], 500, [-4, -2, 4, 2]),
        (HELD, ["settle 6", "raise"], None, [-4, -2, 4, 2]),
        ([Rule(cost=2)], ["add 1", "add 3"], 200, [-2, -1, -3]),
        ([Rule(cost=2)], ["add 1", "add 3"], 503, [-2, -1, -3, 1, 3, 2]),
        ([Rule(cost=3)], ["refund 1"], 200, [-3, 1]),
        ([Rule(cost=3)], ["refund 1", "refund 1"], 200, [-3, 1, 1]),
        ([Rule(cost=3)], ["refund 1", "refund 1"], 500, [-3, 1, 1, 1]),
        ([Rule(cost=3)], ["refund"], 500, [-3, 3]),
        ([Rule(cost=0)], [], 500, []),
    ],
    ids=str,
)
async def test_a_request_costs_the_amount_of_its_handler_and_nothing_if_it_fails(
    rules: list[Rule], steps: list[str], status: int | None, changes: list[int]
) -> None:
    """Each change once, and the field tells the balance after the last one before it was sent."""
    world = World(credits=10)
    app = handler(*steps, status=status or 200)
    answer = await call(world.around(app, rules=rules))
    assert world.amounts == changes
    assert await world.credits() == 10 + sum(changes)
    if status is not None:
        assert answer.header(b"ratelimit") == f'"credits";r={10 + sum(changes)}'.encode()


async def test_a_hold_is_refused_as_a_charge_is() -> None:
    """The app does not run, and nothing is held."""
    world = World(credits=3)
    answer = await call(world.around(handler("raise"), rules=HELD))
    assert (answer.status, answer.error) == (402, None)
    assert world.amounts == []


async def test_a_further_charge_may_be_refused_and_the_handler_sees_it() -> None:
    """A refusal is a value; the request goes on as the handler decides."""
    world = World(credits=3)
    verdicts: list[Verdict] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        charge = scope["state"]["faregate"]
        verdicts.append((await charge.add(9)).verdict)
        await answers(200)(scope, receive, send)

    await call(world.around(app))
    assert verdicts == [Verdict.OUT_OF_CREDITS]
    assert world.amounts == [-1]


async def test_only_a_hold_can_be_settled() -> None:
    """The mistake is the handler's, so the request fails and is given back."""
    world = World(credits=3)
    answer = await call(world.around(handler("settle 1")))
    assert isinstance(answer.error, InvalidArgumentError)
    assert world.amounts == [-1, 1]


async def test_a_disconnect_leaves_a_hold_at_its_estimate() -> None:
    """What has begun is paid for, and nothing stays held."""
    world = World(credits=5)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert (await receive())["type"] == "http.disconnect"
        raise RuntimeError("nobody is there")

    answer = await call(world.around(app, rules=HELD), disconnects=True)
    assert isinstance(answer.error, RuntimeError)
    assert world.amounts == [-4]
    usage = await world.gate.usage(USER)
    assert usage is not None
    assert usage.held == 0


async def test_a_settlement_that_cannot_be_made_at_once_is_made_later() -> None:
    """The response goes out, and the gate tries again."""
    world = World(credits=5)
    world.ledger.lost["settle"] = 1
    answer = await call(world.around(answers(200), rules=HELD))
    assert (answer.status, answer.error) == (200, None)
    assert await world.gate.retries.join(WAIT_S_MAX)
    held = await world.gate.usage(USER)
    assert held is not None
    assert (held.held, await world.credits()) == (0, 1)


def keyed_scope(key: bytes = b'"one"') -> Scope:
    return http_scope("POST", [(b"idempotency-key", key)])


@pytest.mark.parametrize("rules", [KEYED, [Rule(estimate=2, key_use=KeyUse.OPTIONAL)]], ids=str)
async def test_a_request_with_a_key_is_completed_before_its_client_has_it_all(
    rules: list[Rule],
) -> None:
    """Whoever asks again after the last byte is told that it was served."""
    world = World(credits=9)
    app = world.around(answers(200, b"body"), rules=rules)
    again: list[int] = []

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body" and not message.get("more_body"):
            again.append((await call(app, keyed_scope())).status)

    await app(keyed_scope(), receive, send)
    replays = bool(rules[0].replay_bytes_max)
    assert again == [200 if replays else 409]
    assert len(world.records(TransactionType.DEDUCT)) == 1


async def test_a_request_that_failed_may_be_made_again_with_its_key() -> None:
    """Its charge is given back, so the next one is charged and served."""
    world = World(credits=9)
    failed = await call(world.around(answers(503), rules=KEYED), keyed_scope())
    served = await call(world.around(answers(200), rules=KEYED), keyed_scope())
    assert (failed.status, served.status) == (503, 200)
    assert world.amounts == [-1, 1, -1]


async def test_a_request_without_a_key_passes_where_keys_are_optional() -> None:
    """And one whose key is ill-formed does not: it would be charged twice."""
    world = World(credits=9)
    app = world.around(answers(200), rules=KEYED)
    statuses = [
        (await call(app, scope)).status
        for scope in (http_scope("POST"), http_scope("POST"), keyed_scope(b"two words"))
    ]
    assert statuses == [200, 200, 400]
    assert world.amounts == [-1, -1]
