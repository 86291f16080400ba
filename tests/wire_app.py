"""An API behind the gate, as a program: `python wire_app.py SERVER PORT` runs it until it is ended.

SERVER is uvicorn, hypercorn or granian. Who calls is said by the field `x-user`: this API is for
tests of what a gate does on the wire, and stands on the loopback address alone.
"""

import asyncio
import os
import sys
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from dataclasses import asdict
from uuid import UUID

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from faregate import (
    Allowance,
    CreditPolicy,
    Period,
    PeriodKind,
    PolicySet,
    RateLimit,
    build_gate,
)
from faregate.asgi import FaregateMiddleware, KeyUse, Rule, exempt
from faregate.asgi.rules import CORS_PREFLIGHT, WEBSOCKET
from faregate.config import read_settings
from faregate.domain.policy import FailureMode
from wire_client import STREAM_BYTES

CHUNK = bytes(65_536)
SLOW_S = 0.4

POLICIES = PolicySet(
    tiers={
        "default": CreditPolicy(cost_max=1_000),
        "monthly": CreditPolicy(
            name="monthly", allowance=Allowance(amount=1, period=Period(kind=PeriodKind.MONTH))
        ),
        "limited": CreditPolicy(
            name="limited", limits=(RateLimit(name="burst", count=1, period_ms=60_000),)
        ),
    }
)
RULES = [
    *exempt(
        "/healthz", "/runs/{key}", "/release/{key}", "/memory", "/retries", "/inside", "/health"
    ),
    CORS_PREFLIGHT,
    Rule(path="/monthly", tier="monthly"),
    Rule(path="/limited", tier="limited"),
    Rule(path="/held", estimate=3),
    Rule(path="/computed", cost=lambda scope: int(scope["query_string"] or b"1")),
    Rule(path="/open", on_failure=FailureMode.OPEN),
    Rule(path="/replayed", key_use=KeyUse.OPTIONAL, replay_bytes_max=4_096),
    Rule(path="/keyed", key_use=KeyUse.REQUIRED),
    Rule(path="/uploads", key_use=KeyUse.REQUIRED, replay_bytes_max=4_096),
    Rule(path="/cancelled", key_use=KeyUse.OPTIONAL),
    Rule(path="/talk", methods=[WEBSOCKET], message_cost=1),
]


class State:
    """What the handlers share."""

    def __init__(self) -> None:
        self.runs: Counter[str] = Counter()
        self.released: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self.begun: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        #: How long each request was inside the gate before the app ran or it was refused, and how
        #: the breaker was when it came in.
        self.inside: list[dict[str, object]] = []


state = State()


async def ok(request: Request) -> Response:
    state.runs[request.headers.get("x-user", "")] += 1
    return JSONResponse({"credits": request.state.faregate.credits})


async def held(request: Request) -> Response:
    """Hold until released, then settle for one credit."""
    await state.released[request.headers["x-user"]].wait()
    answer = await request.state.faregate.settle(1)
    return JSONResponse({"refunded": answer.refunded})


async def release(request: Request) -> Response:
    state.released[request.path_params["key"]].set()
    return PlainTextResponse("released")


async def runs(request: Request) -> Response:
    return JSONResponse(state.runs[request.path_params["key"]])


async def fail(_request: Request) -> Response:
    return PlainTextResponse("failed", 500)


async def raise_early(_request: Request) -> Response:
    raise RuntimeError("before the response")


async def stream(_request: Request) -> Response:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(STREAM_BYTES // len(CHUNK)):
            yield CHUNK

    return StreamingResponse(chunks(), headers={"content-length": str(STREAM_BYTES)})


async def raise_late(_request: Request) -> Response:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"begun"
        raise RuntimeError("after the response has started")

    return StreamingResponse(chunks())


async def slow(request: Request) -> Response:
    await asyncio.sleep(SLOW_S)
    state.runs[request.headers["x-user"]] += 1
    return PlainTextResponse("late")


async def endless(request: Request) -> Response:
    """Run until cancelled."""
    user = request.headers["x-user"]
    state.begun[user].set()
    await asyncio.Event().wait()
    state.runs[user] += 1
    return PlainTextResponse("never")


async def upload(request: Request) -> Response:
    """Answer with how much was sent, and what it was if it is short."""
    body = await request.body()
    return JSONResponse({"length": len(body), "start": body[:10].decode()})


async def unread(request: Request) -> Response:
    """Work until released, and only then look or wait for the client to be gone; read nothing."""
    user = request.headers["x-user"]
    state.begun[user].set()
    await state.released[user].wait()
    if request.url.query == "look":
        while not await request.is_disconnected():  # noqa: ASYNC110 -- as apps do
            await asyncio.sleep(0.01)
    else:
        while (await request.receive())["type"] != "http.disconnect":
            pass
    state.runs[user] += 1
    raise RuntimeError("nobody is there any more")


async def memory(_request: Request) -> Response:
    """The resident memory of this process in bytes."""
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: ASYNC230, PTH123 -- no disk
        pages = int(file.read().split()[1])
    return JSONResponse(pages * os.sysconf("SC_PAGE_SIZE"))


async def retries(_request: Request) -> Response:
    return JSONResponse(len(gate.retries))


async def inside(_request: Request) -> Response:
    """How long each request was inside the gate, in microseconds."""
    return JSONResponse(state.inside)


async def health(_request: Request) -> Response:
    return JSONResponse(asdict(gate.health()))


async def talk(socket: WebSocket) -> None:
    await socket.accept()
    async for text in socket.iter_text():
        await socket.send_text(f"{text} for {socket.state.faregate.credits}")


class Watch:
    """Cancels handlers on one path, and notes how long the gate takes on others."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope["breaker"] = gate.health().breaker
            scope["began_ns"] = time.perf_counter_ns()
        if scope["type"] == "http" and scope["path"] == "/cancelled":
            await self._cancel(scope, receive, send)
            return
        await self._app(scope, receive, send)
        # The app below notes when it is reached; a refusal is over when the gate returns.
        if scope["type"] == "http":
            reached_ns = scope.get("reached_ns", time.perf_counter_ns())
            spent_us = (reached_ns - scope["began_ns"]) // 1_000
            state.inside.append({"breaker": scope["breaker"], "spent_us": spent_us})

    async def _cancel(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Cancel a request once its handler runs, as a timeout of the app's own would."""
        asking = asyncio.ensure_future(self._app(scope, receive, send))
        begun = asyncio.ensure_future(state.begun[str(caller(scope))].wait())
        await asyncio.wait({asking, begun}, return_when=asyncio.FIRST_COMPLETED)
        begun.cancel()
        if asking.cancel():
            await asyncio.wait({asking})
            await PlainTextResponse("timed out", 504)(scope, receive, send)


def noting(app: ASGIApp) -> ASGIApp:
    async def note(scope: Scope, receive: Receive, send: Send) -> None:
        scope["reached_ns"] = time.perf_counter_ns()
        await app(scope, receive, send)

    return note


def caller(scope: Scope) -> UUID | None:
    found = dict(scope["headers"]).get(b"x-user")
    return UUID(found.decode()) if found else None


gate = build_gate(read_settings(), POLICIES)
app = Starlette(
    routes=[
        Route("/healthz", lambda _: PlainTextResponse("ok")),
        Route("/held", held),
        Route("/release/{key}", release),
        Route("/runs/{key}", runs),
        Route("/fail", fail),
        Route("/raise", raise_early),
        Route("/raise-late", raise_late),
        Route("/stream", stream),
        Route("/slow", slow),
        Route("/cancelled", endless),
        Route("/memory", memory),
        Route("/upload", upload, methods=["POST"]),
        Route("/uploads", upload, methods=["POST"]),
        Route("/unread", unread, methods=["POST"]),
        Route("/retries", retries),
        Route("/inside", inside),
        Route("/health", health),
        WebSocketRoute("/talk", talk),
        Route("/{path:path}", ok, methods=["GET", "POST", "OPTIONS"]),
    ],
    lifespan=gate.lifespan,
)
served = Watch(FaregateMiddleware(noting(app), gate, caller, rules=RULES))


def serve(server: str, port: int) -> None:
    """Run until SIGTERM."""
    if server == "uvicorn":
        import uvicorn  # noqa: PLC0415

        uvicorn.run(served, host="127.0.0.1", port=port, log_level="warning")
    elif server == "hypercorn":
        from hypercorn.asyncio import serve as run  # noqa: PLC0415
        from hypercorn.config import Config  # noqa: PLC0415

        config = Config()
        config.bind = [f"127.0.0.1:{port}"]
        asyncio.run(run(served, config))  # type: ignore[arg-type]
    else:
        from granian.constants import Interfaces  # noqa: PLC0415
        from granian.server.embed import Server  # noqa: PLC0415

        granian = Server(served, port=port, interface=Interfaces.ASGI)
        asyncio.run(granian.serve())


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
