"""Two small APIs behind the gate: the one of `faregate api`, and the one that replay and demo use.

Neither is for production: both take a client's word for who it is.
"""

import socket
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from http import HTTPStatus
from typing import Annotated
from uuid import UUID

import typer
import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.types import Scope

from faregate.asgi import FaregateMiddleware
from faregate.bootstrap import build_gate
from faregate.cli.settings import development_settings
from faregate.domain.user import user_id_of
from faregate.gate import Gate

#: The users of a replay: uuid5 of this namespace and the client's address.
REPLAY_NAMESPACE = UUID("b1b4c5f0-53a7-4f0b-8a63-27d1a3f4e7c9")
#: In a request: the client's address. Only the replay's own API believes it.
CLIENT_HEADER = "x-replay-client"
#: In a response: the app behind the gate has answered, and not the gate.
SERVED_HEADER = "x-served"
#: Tells how many voids and refunds still wait to be done.
IDLE_PATH = "/idle"

#: A connection that the client keeps must not be closed under a request that it is sending.
KEEP_ALIVE_S = 300
STOP_S_MAX = 5

Lifespan = Callable[[Starlette], AbstractAsyncContextManager[None]]


def client_user(address: str) -> UUID:
    """Return the user that stands for a client of a replay."""
    return user_id_of(REPLAY_NAMESPACE, address)


def statuses_of(text: str) -> list[str]:
    """Split a list of statuses as the command line takes it: `5xx,404`."""
    return [status.strip() for status in text.split(",") if status.strip()]


def replay_app(gate: Gate, refund_statuses: Sequence[str]) -> Starlette:
    """Build the API of a replay: `/replay/404` answers 404, if the client's credits allow it."""
    answering = Starlette(routes=[Route("/{status:int}", _answer_as_logged)])
    gated = FaregateMiddleware(
        answering, gate=gate, identify=_replay_client, refund_statuses=refund_statuses
    )

    async def tell_waiting(_request: Request) -> JSONResponse:
        return JSONResponse({"waiting": len(gate.retries), "given_up": gate.retries.given_up})

    routes = [Mount("/replay", app=gated), Route(IDLE_PATH, tell_waiting)]
    return Starlette(routes=routes, lifespan=_opening(gate))


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
        routes=[Route("/healthz", health), Mount("/", app=gated)], lifespan=_opening(gate)
    )


def _opening(gate: Gate) -> Lifespan:
    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        try:
            await gate.start()
            yield
        finally:
            await gate.aclose()

    return lifespan


async def _answer_as_logged(request: Request) -> Response:
    # A status below 200 announces an answer and is none, so no server sends it as one.
    status = max(request.path_params["status"], HTTPStatus.OK)
    has_body = status not in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)
    body = f"{status}\n" if has_body else None
    return Response(body, status, headers={SERVED_HEADER: "1"}, media_type="text/plain")


def _replay_client(scope: Scope) -> UUID | None:
    address = Headers(scope=scope).get(CLIENT_HEADER)
    return client_user(address) if address else None


def _bearer(scope: Scope) -> UUID | None:
    scheme, _, token = Headers(scope=scope).get("authorization", "").partition(" ")
    try:
        return UUID(token.strip()) if scheme.lower() == "bearer" else None
    except ValueError:
        return None


def serve(app: Starlette, listening: socket.socket) -> None:
    """Serve until SIGTERM or SIGINT."""
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=STOP_S_MAX,
    )
    uvicorn.Server(config).run(sockets=[listening])


def api(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 for any that is free.", min=0, max=65535)] = 8000,
) -> None:
    """Serve a sample API behind the gate, for development: `Authorization: Bearer <user id>`."""
    gate = build_gate(development_settings())
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family)
    except OSError as error:
        raise typer.BadParameter(
            f"cannot listen on {host} port {port}: {error.strerror}"
        ) from error
    with listening:
        number = listening.getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        print(f"listening on http://{shown}:{number}", file=sys.stderr, flush=True)
        serve(sample_app(gate), listening)


def main(arguments: Sequence[str]) -> None:
    """Serve the API of a replay: arguments are the number of an open socket, and the statuses."""
    number, refund_status = arguments
    gate = build_gate(development_settings())
    with socket.socket(fileno=int(number)) as listening:
        serve(replay_app(gate, statuses_of(refund_status)), listening)


if __name__ == "__main__":
    main(sys.argv[1:])
