"""An API behind nginx: `uvicorn --no-proxy-headers app:app`.

Customers have API keys. Visitors are charged by their address, each of which becomes a user: so it
needs `FAREGATE_PROVISION_USERS=true`.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from uuid import UUID

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Scope

from faregate import Settings, build_api_keys, build_gate
from faregate.asgi import FaregateMiddleware, KeyUse, Rule, exempt, lifespan_of
from faregate.asgi.identity import ApiKeyIdentity, anonymous, first_of

VISITORS = UUID("7b1a3a3e-2f61-5f5b-9b0e-6d1c0a1f2e3d")
#: The addresses of nginx, and of each proxy before it. Only their `X-Forwarded-For` is believed.
PROXIES = os.environ.get("TRUSTED_PROXIES", "127.0.0.1").split(",")
#: Less than `proxy_read_timeout`: so the app ends a slow request, and the gate refunds it.
TIMEOUT_S = float(os.environ.get("REPORT_TIMEOUT_S", "30"))
#: A charged response is for one caller: no cache may send it to another.
PRIVATE = {"cache-control": "private, no-store"}


def is_customer(scope: Scope) -> bool:
    """Whether a request has an API key: visitors share addresses, and must not share responses."""
    return any(name == b"authorization" for name, _ in scope["headers"])


RULES = [
    *exempt("/healthz"),
    Rule(
        path="/reports/{seconds:float}",
        when=is_customer,
        key_use=KeyUse.OPTIONAL,
        replay_bytes_max=16_384,
    ),
]


async def report(request: Request) -> Response:
    """Take as long as the path says."""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            await asyncio.sleep(request.path_params["seconds"])
    except TimeoutError:
        return PlainTextResponse("the report takes too long\n", 504)
    return JSONResponse({"left": request.state.faregate.credits}, headers=PRIVATE)


async def upload(request: Request) -> Response:
    """Say how large a body is."""
    return JSONResponse({"bytes": len(await request.body())}, headers=PRIVATE)


async def stream(_: Request) -> Response:
    """Send a first line at once, and the second one later; nginx passes each on as it comes."""

    async def lines() -> AsyncIterator[str]:
        yield "first\n"
        await asyncio.sleep(TIMEOUT_S)
        yield "second\n"

    return StreamingResponse(lines(), headers={**PRIVATE, "x-accel-buffering": "no"})


async def healthz(_: Request) -> Response:
    """Say that the app runs."""
    return PlainTextResponse("ok\n")


settings = Settings()
gate = build_gate(settings)
customers = ApiKeyIdentity(build_api_keys(settings))
identify = first_of(customers, anonymous(VISITORS, trusted_proxies=PROXIES))
app = Starlette(
    routes=[
        Route("/healthz", healthz),
        Route("/reports/{seconds:float}", report),
        Route("/uploads", upload, methods=["POST"]),
        Route("/stream", stream),
    ],
    middleware=[Middleware(FaregateMiddleware, gate=gate, identify=identify, rules=RULES)],
    lifespan=lifespan_of(gate, customers),
)
