"""The gate in front of what others build: Starlette, FastAPI, Litestar, Quart, and a bare app."""

from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI
from litestar import Litestar
from litestar import get as litestar_get
from quart import Quart
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.schemas import SchemaGenerator
from starlette.types import ASGIApp

from asgi_client import USER, World, answers, call, http_scope
from faregate.asgi import Charge, ChargeContext, FaregateMiddleware, Rule, charged
from faregate.asgi.middleware import AnyASGIApp
from faregate.asgi.problems import STATUSES
from faregate.domain.errors import ConfigurationError
from faregate.domain.transaction import TransactionType

DEFERRED = [Rule(is_deferred=True)]


def starlette_app() -> ASGIApp:
    return Starlette(routes=[Route("/", lambda _: PlainTextResponse("hello"))])


def fastapi_app() -> ASGIApp:
    app = FastAPI()

    @app.get("/")
    async def hello() -> str:
        return "hello"

    return app


def litestar_app() -> AnyASGIApp:
    @litestar_get("/")
    async def hello() -> str:
        return "hello"

    return Litestar([hello])


def quart_app() -> AnyASGIApp:
    app = Quart(__name__)

    @app.get("/")
    async def hello() -> str:
        return "hello"

    return app


APPS = [starlette_app, fastapi_app, litestar_app, quart_app, lambda: answers(200, b"hello")]


@pytest.mark.parametrize("make", APPS, ids=["starlette", "fastapi", "litestar", "quart", "bare"])
async def test_every_framework_is_charged_and_refused_alike(make: Any) -> None:
    """One credit: the first request is served with fields, the second is not."""
    world = World(credits=1)
    app = world.around(make())
    served = await call(app, http_scope())
    assert (served.status, b"hello" in served.body) == (200, True)
    assert served.header(b"ratelimit") == b'"credits";r=0'
    refused = await call(app, http_scope())
    assert refused.status == 402
    assert await world.credits() == 0


async def test_a_dependency_of_fastapi_charges_its_endpoint_alone() -> None:
    """It gets the charge, is refunded where it fails, and is told in OpenAPI; others are free."""
    world = World(credits=5)
    app = FastAPI()

    @app.get("/report", responses=Charge.responses)
    async def report(charge: Annotated[ChargeContext, Depends(Charge(cost=4))]) -> int:
        return charge.credits

    @app.get("/broken")
    async def broken(charge: Annotated[ChargeContext, Depends(Charge(cost=1))]) -> int:
        raise RuntimeError(charge.cost)

    @app.get("/free")
    async def free() -> str:
        return "free"

    app.add_middleware(FaregateMiddleware, gate=world.gate, identify=lambda _: USER, rules=DEFERRED)
    free_answer = await call(app, http_scope(path="/free"))
    assert (free_answer.status, free_answer.header(b"ratelimit")) == (200, None)
    assert (await call(app, http_scope(path="/report"))).body == b"1"
    refused = await call(app, http_scope(path="/report"))
    assert (refused.status, refused.header(b"content-type")) == (402, b"application/problem+json")
    broken_answer = await call(app, http_scope(path="/broken"))
    assert isinstance(broken_answer.error, RuntimeError)
    assert await world.credits() == 1
    assert [refund.amount for refund in world.refunds] == [1]
    described = app.openapi()["paths"]["/report"]["get"]["responses"]
    assert {int(status) for status in described} == {200, *STATUSES.values()}
    for status in STATUSES.values():
        assert "application/problem+json" in described[str(status)]["content"]


async def test_nobody_pays_for_a_request_that_fastapi_refuses() -> None:
    """A dependency is given back; a decorator charges only once all is valid."""
    world = World()
    app = FastAPI()

    @app.get("/late/{number}")
    @charged(cost=2)
    async def late(request: Request, number: int) -> int:
        return number + int(request.state.faregate.credits)

    @app.get("/{number}")
    async def early(number: int, charge: Annotated[ChargeContext, Depends(Charge())]) -> int:
        return number + charge.credits

    app.add_middleware(FaregateMiddleware, gate=world.gate, identify=lambda _: USER, rules=DEFERRED)
    assert (await call(app, http_scope(path="/one"))).status == 422
    assert world.amounts == [-1, 1]
    for path, status in (("/late/one", 422), ("/no/such/path", 404)):
        assert (await call(app, http_scope(path=path))).status == status
    assert (await call(app, http_scope("DELETE", path="/1"))).status == 405
    assert world.amounts == [-1, 1]
    assert (await call(app, http_scope(path="/late/5"))).body == b"6"
    assert world.amounts == [-1, 1, -2]


class Reports(HTTPEndpoint):
    @charged(cost=2)
    async def get(self, request: Request) -> Response:
        return JSONResponse(request.state.faregate.credits)


@charged(cost=lambda scope: len(scope["path"]))
def computed(request: Request) -> Response:
    """Say what is left.
    ---
    responses:
      200:
        description: What is left.
    """
    return JSONResponse(request.state.faregate.credits)


async def test_a_decorator_charges_endpoints_of_starlette() -> None:
    """Functions and methods, async or not, wherever they are mounted."""
    world = World(credits=20)
    routes = [Route("/reports", Reports), Route("/computed", computed)]
    free = Route("/free", lambda _: PlainTextResponse("free"))
    around = Middleware(
        FaregateMiddleware, gate=world.gate, identify=lambda _: USER, rules=DEFERRED
    )
    app = Starlette(routes=[*routes, free, Mount("/api", routes=routes)], middleware=[around])
    assert (await call(app, http_scope(path="/free"))).body == b"free"
    assert (await call(app, http_scope(path="/reports"))).body == b"18"
    assert (await call(app, http_scope(path="/api/computed"))).body == b"5"
    assert (await call(app, http_scope(path="/computed"))).status == 402
    deducts = [record.amount for record in world.records(TransactionType.DEDUCT)]
    assert deducts == [-2, -13]
    schemas = SchemaGenerator({"openapi": "3.0.0", "info": {"title": "x", "version": "1"}})
    described = schemas.get_schema([*routes])["paths"]["/computed"]["get"]["responses"]
    assert described[200]["description"] == "What is left."
    assert set(described) == {200, *STATUSES.values()}


@pytest.mark.parametrize("rules", [None, [Rule()]])
async def test_an_endpoint_whose_request_is_not_deferred_raises_an_error(rules: Any) -> None:
    """Neither is it served for nothing, nor charged twice."""
    world = World(credits=5)
    app: ASGIApp = Starlette(routes=[Route("/computed", computed)])
    if rules is not None:
        app = world.around(app, rules=rules)
    answer = await call(app, http_scope(path="/computed"))
    assert isinstance(answer.error, ConfigurationError)
    assert answer.status == 500
    assert world.records(TransactionType.DEDUCT)[1:] == []
    assert await world.credits() == 5
