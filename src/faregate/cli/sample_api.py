"""`faregate api`: a small API behind the gate. It takes a client's word for who it is."""

import asyncio
import socket
import sys
from contextlib import suppress
from typing import Annotated
from uuid import UUID

import typer
import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Scope

from faregate.asgi import FaregateMiddleware
from faregate.bootstrap import build_gate, open_gate
from faregate.cli.settings import development_settings
from faregate.cli.sockets import listen, url_of
from faregate.config import Settings
from faregate.domain.errors import ArchiveUnavailableError, LedgerError
from faregate.gate import Gate

#: A connection that the client keeps must not be closed under a request that it is sending.
KEEP_ALIVE_S = 300
STOP_S_MAX = 5


def sample_app(gate: Gate) -> Starlette:
    """Build an API whose users say who they are: `Authorization: Bearer <user id>`."""

    async def greet(request: Request) -> JSONResponse:
        left = request.state.faregate.credits
        return JSONResponse({"message": "served", "credits": left})

    async def health(_request: Request) -> JSONResponse:
        return JSONResponse({"status": "ok"})

    gated = FaregateMiddleware(
        Starlette(routes=[Route("/{path:path}", greet)]), gate=gate, identify=_bearer
    )
    return Starlette(
        routes=[Route("/healthz", health), Mount("/", app=gated)], lifespan=gate.lifespan
    )


def _bearer(scope: Scope) -> UUID | None:
    scheme, _, token = Headers(scope=scope).get("authorization", "").partition(" ")
    try:
        return UUID(token.strip()) if scheme.lower() == "bearer" else None
    except ValueError:
        return None


def serve(app: ASGIApp, listening: socket.socket) -> None:
    """Serve until SIGTERM or SIGINT."""
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=STOP_S_MAX,
    )
    uvicorn.Server(config).run(sockets=[listening])


async def _check(settings: Settings) -> None:
    """Start a gate and close it, since a server of HTTP would make a page of one line.

    Raises:
        ConfigurationError: Settings contradict the ledger, or a right is missing.
    """
    # A server that is away is waited for.
    with suppress(LedgerError, ArchiveUnavailableError):
        async with open_gate(settings.model_copy(update={"journal_dir": ""})):
            pass


def api(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 for any free port.", min=0, max=65535)] = 8000,
) -> None:
    """Serve a sample API behind the gate, for development: `Authorization: Bearer <user id>`.

    Example: faregate api --port 8000
    """
    settings = development_settings()
    asyncio.run(_check(settings))
    gate = build_gate(settings)
    with listen(host, port) as listening:
        print(f"listening on {url_of(listening)}", file=sys.stderr, flush=True)
        serve(sample_app(gate), listening)
