"""The middleware: answers that nobody pays for, and mistakes of mounting that say so."""

import pytest
from fastapi import FastAPI
from fastapi.exceptions import FastAPIDeprecationWarning
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from asgi_client import USER, Answer, World, answers, call, http_scope
from faregate.asgi import FaregateMiddleware, KeyUse, Rule
from faregate.domain.errors import ConfigurationError

KEYED = [Rule(key_use=KeyUse.OPTIONAL, replay_bytes_max=100_000)]


def keyed(*fields: tuple[bytes, bytes]) -> Scope:
    return http_scope("POST", [(b"idempotency-key", b"one"), *fields])


@pytest.mark.parametrize("status", [408, 409, 425, 429])
async def test_a_status_that_asks_for_a_retry_is_not_saved_for_its_key(status: int) -> None:
    """The retry is served and pays, however few statuses are refunded."""
    world = World()
    told = [status, 200]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await answers(told.pop(0))(scope, receive, send)

    around = world.around(app, rules=KEYED, refund_statuses=[])
    assert [(await call(around, keyed())).status for _ in range(2)] == [status, 200]
    assert world.amounts == [-1, 1, -1]
    assert (await call(around, keyed())).header(b"idempotent-replayed") == b"true"


async def test_a_retry_that_cannot_decode_the_saved_response_learns_that_it_was_served() -> None:
    """Bytes that it cannot read would be no answer; one that can gets them."""
    world = World()
    inner = PlainTextResponse("word " * 1_000)
    app = world.around(GZipMiddleware(inner), rules=KEYED)
    first = await call(app, keyed((b"accept-encoding", b"gzip")))
    assert first.header(b"content-encoding") == b"gzip"
    plain = await call(app, keyed())
    assert (plain.status, b"key_done" in plain.body) == (409, True)
    again = await call(app, keyed((b"accept-encoding", b"br, gzip")))
    assert (again.status, again.body) == (200, first.body)
    assert world.amounts == [-1]


def site(world: World) -> Starlette:
    routes = [
        Route(path, lambda _: PlainTextResponse("here")) for path in ("/a", "/b/", "/\u00fc/")
    ]
    around = Middleware(FaregateMiddleware, gate=world.gate, identify=lambda _: USER)
    return Starlette(routes=routes, middleware=[around])


@pytest.mark.parametrize("path", ["/a/", "/b", "/\u00fc"])
async def test_a_redirect_to_the_other_last_slash_costs_nothing(path: str) -> None:
    """Only what it leads to does."""
    world = World()
    assert (await call(site(world), http_scope(path=path))).status == 307
    assert world.amounts == [-1, 1]


@pytest.mark.parametrize(
    ("path", "location"),
    [("/a", "/b"), ("/a", None), ("/", "?page=2"), ("/a", "/a"), ("/a", "/login?next=/a/")],
)
async def test_another_redirect_is_paid_for(path: str, location: str | None) -> None:
    """It may be the answer that was asked for."""
    world = World()
    headers = [] if location is None else [(b"location", location.encode())]
    await call(world.around(answers(307, headers=headers)), http_scope(path=path))
    assert world.amounts == [-1]


@pytest.mark.parametrize("outer", [[], [Rule(is_deferred=True)]], ids=["charged", "deferred"])
async def test_two_gates_around_one_request_say_so(outer: list[Rule]) -> None:
    """Nobody is charged twice, nor for what fails then."""
    world, other = World(), World()
    answer: Answer = await call(world.around(other.around(answers(200)), rules=outer))
    assert isinstance(answer.error, ConfigurationError)
    assert "passes FaregateMiddleware twice" in str(answer.error)
    assert sum(world.amounts) == sum(other.amounts) == 0


async def test_a_gate_around_a_gate_may_leave_requests_to_it() -> None:
    """What the outer one exempts, only the inner one charges."""
    world = World()
    exempt = [Rule(is_exempt=True)]
    assert (await call(world.around(world.around(answers(200)), rules=exempt))).status == 200
    assert world.amounts == [-1]


async def test_rules_see_the_path_that_an_app_with_a_root_path_serves() -> None:
    """Inside of it; around it one of two spellings of each path would pass by its rule."""
    world = World(credits=20)
    rules = [Rule(path="/report", cost=9)]
    with pytest.warns(FastAPIDeprecationWarning, match="root_path"):
        app = FastAPI(root_path="/api")

    @app.get("/report")
    async def report() -> str:
        return "a report"

    with pytest.raises(ConfigurationError, match="add_middleware"):
        world.around(app)
    app.add_middleware(FaregateMiddleware, gate=world.gate, identify=lambda _: USER, rules=rules)
    for path in ("/report", "/api/report"):
        assert (await call(app, http_scope(path=path))).status == 200
    assert world.amounts == [-9, -9]
