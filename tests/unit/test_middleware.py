"""The middleware: who is charged, what the client reads, what passes untouched."""

import asyncio
import json
from collections import Counter
from typing import Any
from uuid import UUID

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from asgi_client import USER, World, answers, call, http_scope
from faregate.asgi import CORS_PREFLIGHT, ChargeContext, FaregateMiddleware, ProblemOptions, Rule
from faregate.domain.errors import ConfigurationError
from faregate.domain.policy import CreditPolicy
from faregate.domain.transaction import TransactionType
from faregate.gate import Gate

PREFLIGHT = [(b"origin", b"https://example.org"), (b"access-control-request-method", b"POST")]


async def never(scope: Scope, receive: Receive, send: Send) -> None:
    raise AssertionError("the app must not run")


async def test_an_allowed_request_is_charged_and_returns_the_remaining_credits() -> None:
    """The app's response comes unchanged, with both fields once after its own headers."""
    world = World(credits=3)
    answer = await call(world.around(answers(200, b"hello")))
    assert answer.status == 200
    assert answer.body == b"hello"
    assert answer.headers == [
        (b"x-app", b"1"),
        (b"ratelimit-policy", b'"credits";q=3'),
        (b"ratelimit", b'"credits";r=2'),
    ]
    assert await world.credits() == 2
    assert [record.amount for record in world.records(TransactionType.DEDUCT)] == [-1]


async def test_the_app_finds_the_decision_and_keeps_its_state() -> None:
    """What the server or an outer middleware put into the state is still there, and shared."""
    world = World()
    found: dict[str, Any] = {}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        found.update(scope["state"])
        await answers(200)(scope, receive, send)

    scope = http_scope()
    scope["state"] = {"pool": 7}
    await call(world.around(app), scope)
    assert found["pool"] == 7
    charge = found["faregate"]
    assert isinstance(charge, ChargeContext)
    assert (charge.user_id, charge.credits, charge.cost) == (USER, 2, 1)


async def test_without_credits_the_app_does_not_run() -> None:
    """402 by default, as a problem with balance, cost and fields; nothing is recorded."""
    world = World(credits=1, cost=2)
    answer = await call(world.around(never))
    assert answer.error is None
    assert answer.status == 402
    assert answer.header(b"content-type") == b"application/problem+json"
    assert answer.header(b"ratelimit-policy") == b'"credits";q=1'
    assert answer.header(b"ratelimit") == b'"credits";r=1'
    problem = json.loads(answer.body)
    assert (problem["code"], problem["credits"], problem["cost"]) == ("out_of_credits", 1, 2)
    assert not world.ledger.pending


async def test_the_refusal_can_be_a_429() -> None:
    """For clients that know nothing of 402; the policy has its name in field and problem."""
    problems = ProblemOptions(statuses={"out_of_credits": 429})
    answer = await call(World(credits=0).around(never, problems=problems))
    assert answer.status == 429
    assert answer.header(b"ratelimit") == b'"credits";r=0'
    assert json.loads(answer.body)["violated-policies"] == ["credits"]


async def test_a_debt_is_shown_as_nothing_left() -> None:
    """The field says 0 and the problem says how much below."""
    world = World(credits=1)
    await world.gate.adjust(USER, -5, actor="test", reason="debt", negative_allowed=True)
    answer = await call(world.around(never))
    assert answer.header(b"ratelimit") == b'"credits";r=0'
    assert json.loads(answer.body)["credits"] == -4


async def test_a_request_without_a_user_gets_a_401_with_a_challenge() -> None:
    """A 401 names an authentication scheme (RFC 9110), and nobody is charged."""
    world = World()
    answer = await call(world.around(never, identify=lambda _: None, challenge="Basic"))
    assert answer.status == 401
    assert answer.header(b"www-authenticate") == b"Basic"
    assert json.loads(answer.body)["code"] == "no_identity"
    assert not world.ledger.pending


async def test_an_unknown_user_gets_a_403() -> None:
    """A user that has not signed up has no account to charge, unless the gate provisions it."""
    answer = await call(World().around(never, identify=lambda _: UUID(int=99)))
    assert answer.status == 403
    assert json.loads(answer.body)["code"] == "unknown_user"


async def test_identity_may_be_async() -> None:
    """Looking a user up may take a wait."""

    async def identify(scope: Scope) -> UUID | None:
        await asyncio.sleep(0)
        return USER if dict(scope["headers"]).get(b"x-session") == b"good" else None

    middleware = World().around(answers(200), identify=identify)
    good = await call(middleware, http_scope(headers=[(b"x-session", b"good")]))
    bad = await call(middleware, http_scope(headers=[(b"x-session", b"bad")]))
    assert (good.status, bad.status) == (200, 401)


async def test_an_identity_that_is_no_uuid_is_an_error_of_the_app() -> None:
    """A text is not taken for a user, since nobody knows which one it would be."""
    answer = await call(World().around(never, identify=lambda _: str(USER)))
    assert isinstance(answer.error, TypeError)
    assert not answer.messages


@pytest.mark.parametrize("kind", ["lifespan", "unheard_of"])
async def test_other_scopes_pass_untouched(kind: str) -> None:
    """The app gets the very scope, receive and send of the server, and nobody is charged."""
    world = World()
    seen: list[object] = []

    async def app(*arguments: object) -> None:
        seen.extend(arguments)

    async def receive() -> Message:
        return {}

    async def send(message: Message) -> None:
        assert not message

    scope: Scope = {"type": kind}
    await world.around(app, identify=lambda _: pytest.fail("nobody asks"))(scope, receive, send)
    assert seen == [scope, receive, send]
    assert scope == {"type": kind}


async def test_a_preflight_is_free_and_needs_no_identity() -> None:
    """A browser asks without the user's credentials, and only asks."""
    middleware = World().around(answers(204), identify=lambda _: None)
    answer = await call(middleware, http_scope("OPTIONS", PREFLIGHT))
    assert (answer.status, answer.header(b"ratelimit")) == (204, None)
    assert (await call(middleware, http_scope("OPTIONS", PREFLIGHT[:1]))).status == 401
    assert (await call(middleware, http_scope("POST", PREFLIGHT))).status == 401


async def test_the_app_chooses_exempt_requests() -> None:
    """With its own rule, a preflight is charged like anything else."""
    world = World()
    middleware = world.around(answers(200), rules=[Rule(methods=["TRACE"], is_exempt=True)])
    assert (await call(middleware, http_scope("TRACE"))).header(b"ratelimit") is None
    await call(middleware, http_scope("OPTIONS", PREFLIGHT))
    await call(middleware, http_scope("HEAD"))
    assert await world.credits() == 1


async def test_a_hundred_requests_at_once_share_ten_credits() -> None:
    """Exactly as many are served as there are credits, and each is told another rest."""
    world = World(credits=10)
    middleware = world.around(answers(200))
    got = await asyncio.gather(*(call(middleware) for _ in range(100)))
    assert Counter(answer.status for answer in got) == {200: 10, 402: 90}
    served = [answer.header(b"ratelimit") for answer in got if answer.status == 200]
    assert len(set(served)) == 10
    assert len(world.records(TransactionType.DEDUCT)) == 10


async def test_it_is_mounted_in_starlette_with_a_gate_that_opens_later() -> None:
    """The usual five lines; the gate may be a function that finds it at each charge."""
    world = World()

    async def home(request: Request) -> PlainTextResponse:
        return PlainTextResponse(str(request.state.faregate.credits))

    app = Starlette(
        routes=[Route("/", home)],
        middleware=[
            Middleware(FaregateMiddleware, gate=lambda: world.gate, identify=lambda _: USER)
        ],
    )
    answer = await call(app)
    assert (answer.status, answer.body) == (200, b"2")
    assert answer.header(b"ratelimit") == b'"credits";r=2'


@pytest.mark.parametrize(
    "setting",
    [
        {"identify": None},
        {"identify": USER},
        {"rules": [CORS_PREFLIGHT, Rule(path="/{id:nothing}")]},
        {"refund_statuses": ["6xx"]},
        {"challenge": "Bearer\r\nset-cookie: x"},
    ],
    ids=lambda setting: ascii(setting)[:30],
)
def test_settings_that_cannot_work_are_refused_at_the_start(setting: dict[str, object]) -> None:
    """A gate without an identity would charge nobody, and a bad text would break responses."""
    with pytest.raises((TypeError, ConfigurationError, AssertionError)):
        World().around(never, **setting)


def test_a_policy_that_fields_cannot_name_is_refused_at_the_start() -> None:
    """And not at the first response, where a line break in it would begin another field."""
    world = World()
    gate = Gate(world.ledger, world.store, CreditPolicy(name="plan\r\nset-cookie: x"))
    with pytest.raises(ConfigurationError):
        FaregateMiddleware(never, gate, lambda _: USER)


def test_a_gate_is_needed() -> None:
    """Settings or a path are not a gate."""
    with pytest.raises(TypeError):
        FaregateMiddleware(never, "gate", lambda _: USER)  # type: ignore[arg-type]
