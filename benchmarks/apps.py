"""The same app on Starlette and FastAPI: with nothing, with Faregate, and with peers before it.

All know a user by a header, allow more than anybody asks, and answer the same small text.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from uuid import UUID

from fastapi import Depends, FastAPI
from limits import RateLimitItemPerDay
from limits.aio.storage import RedisStorage
from limits.aio.strategies import FixedWindowRateLimiter
from redis.asyncio import Redis
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from benchmarks.faregate_targets import patient_gate
from benchmarks.pyrate_buckets import limiter_on
from benchmarks.servers import Place
from benchmarks.targets import REQUESTS_MAX
from faregate.asgi import FaregateMiddleware

USER_FIELD = b"x-user"
Build = Callable[[str, Place], Awaitable[ASGIApp]]


def user_of(scope: Scope) -> UUID | None:
    """Return who asks."""
    for name, value in scope["headers"]:
        if name == USER_FIELD:
            return UUID(value.decode())
    return None


def key_of(request: Request) -> str:
    """Return who asks, as a key of limiters."""
    return request.headers["x-user"]


async def greet(_request: Request) -> PlainTextResponse:
    """Answer on Starlette."""
    return PlainTextResponse("served\n")


async def hello() -> dict[str, str]:
    """Answer on FastAPI."""
    return {"message": "served"}


def app_of(framework: str, middleware: list[Middleware] | None = None, **given: Any) -> Any:
    """Return the app, on either framework."""
    if framework == "Starlette":
        return Starlette(routes=[Route("/", greet)], middleware=middleware or [], **given)
    app = FastAPI(middleware=middleware or [], **given)
    app.get("/")(hello)
    return app


async def bare(framework: str, _: Place) -> ASGIApp:
    """With nothing in front."""
    app: ASGIApp = app_of(framework)
    return app


async def faregate(framework: str, place: Place) -> ASGIApp:
    """With Faregate's middleware."""
    gate = patient_gate(place)
    charged = Middleware(FaregateMiddleware, gate=gate, identify=user_of)
    app: ASGIApp = app_of(framework, [charged], lifespan=gate.lifespan)
    return app


class LimitsMiddleware:
    """The least that `limits` needs to stand in front of an app."""

    def __init__(self, app: ASGIApp, limiter: FixedWindowRateLimiter) -> None:
        self._app = app
        self._limiter = limiter
        self._item = RateLimitItemPerDay(REQUESTS_MAX)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count a request, and let it pass or answer 429."""
        app = self._app
        if scope["type"] == "http" and not await self._limiter.hit(self._item, str(user_of(scope))):
            app = PlainTextResponse("too many requests\n", 429)
        await app(scope, receive, send)


async def limits(framework: str, place: Place) -> ASGIApp:
    """With `limits`, on redis-py."""
    storage = RedisStorage(f"async+{place.redis_url}", implementation="redispy")
    limiter = FixedWindowRateLimiter(storage)
    app: ASGIApp = app_of(framework, [Middleware(LimitsMiddleware, limiter=limiter)])
    return app


async def slowapi(framework: str, place: Place) -> ASGIApp:
    """With slowapi, by its middleware for ASGI."""
    from slowapi import Limiter  # noqa: PLC0415
    from slowapi.middleware import SlowAPIASGIMiddleware  # noqa: PLC0415

    app = app_of(framework, [Middleware(SlowAPIASGIMiddleware)])
    app.state.limiter = Limiter(
        key_func=key_of,
        default_limits=[f"{REQUESTS_MAX}/day"],
        storage_uri=place.redis_url,
    )
    whole: ASGIApp = app
    return whole


async def fastapi_limiter(_framework: str, place: Place) -> ASGIApp:
    """With fastapi-limiter, as a dependency of the route."""
    from fastapi_limiter.depends import RateLimiter  # noqa: PLC0415

    async def identifier(request: Request) -> str:
        return key_of(request)

    limiter = await limiter_on(Redis.from_url(place.redis_url), REQUESTS_MAX)
    app = FastAPI()
    limited = Depends(RateLimiter(limiter=limiter, identifier=identifier))
    app.get("/", dependencies=[limited])(hello)
    return app


APPS: Mapping[str, Build] = {
    "bare app": bare,
    "faregate": faregate,
    "limits": limits,
    "slowapi": slowapi,
    "fastapi-limiter": fastapi_limiter,
}
