"""What stands around the gate, and bodies that are sent again, as docs/mount.md says."""

from typing import Annotated

import pytest
from fastapi import Depends, FastAPI
from litestar import Litestar, get
from litestar.config.cors import CORSConfig
from litestar.middleware import DefineMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from asgi_client import USER, Answer, World, answers, call, http_scope
from faregate.asgi import Charge, ChargeContext, FaregateMiddleware, KeyUse, Rule
from faregate.asgi.middleware import AnyASGIApp

KEYED = [Rule(key_use=KeyUse.OPTIONAL, replay_bytes_max=100_000)]
KEY = (b"idempotency-key", b"one")
ORIGIN = (b"origin", b"https://shop.example")
EXPOSED = ["RateLimit", "RateLimit-Policy", "Retry-After"]


def with_cors(app: ASGIApp) -> ASGIApp:
    return CORSMiddleware(app, allow_origins=["https://shop.example"], expose_headers=EXPOSED)


async def test_a_browser_reads_a_refusal_only_if_cors_is_outside() -> None:
    """A preflight is free there, too, though no rule exempts it."""
    outside = with_cors(World(credits=0).around(answers(200), rules=[]))
    refused = await call(outside, http_scope(headers=[ORIGIN]))
    assert refused.status == 402
    assert refused.header(b"access-control-allow-origin") == ORIGIN[1]
    assert refused.header(b"access-control-expose-headers") == ", ".join(EXPOSED).encode()
    asked = http_scope("OPTIONS", [ORIGIN, (b"access-control-request-method", b"GET")])
    assert (await call(outside, asked)).status == 200
    inside = World(credits=0).around(with_cors(answers(200)))
    refused = await call(inside, http_scope(headers=[ORIGIN]))
    assert refused.header(b"access-control-allow-origin") is None


async def test_the_cors_of_litestar_is_outside() -> None:
    """Though it is a setting of the app that the middleware is in."""
    around = DefineMiddleware(
        FaregateMiddleware, gate=World(credits=0).gate, identify=lambda _: USER
    )

    @get("/")
    async def hello() -> str:
        raise AssertionError

    config = CORSConfig(allow_origins=["https://shop.example"])
    app: AnyASGIApp = Litestar([hello], middleware=[around], cors_config=config)
    refused = await call(app, http_scope(headers=[ORIGIN]))
    assert refused.status == 402
    assert refused.header(b"access-control-allow-origin") == ORIGIN[1]


@pytest.mark.parametrize(("is_outside", "status"), [(True, 200), (False, 409)])
async def test_a_retry_without_gzip_gets_the_saved_response_if_gzip_is_outside(
    is_outside: bool,  # noqa: FBT001
    status: int,
) -> None:
    """Inside, what is kept is compressed."""
    world, inner = World(), PlainTextResponse("word " * 1_000)
    app: ASGIApp = GZipMiddleware(world.around(inner, rules=KEYED))
    if not is_outside:
        app = world.around(GZipMiddleware(inner), rules=KEYED)
    first = await call(app, http_scope("POST", [KEY, (b"accept-encoding", b"gzip")]))
    assert first.header(b"content-encoding") == b"gzip"
    again = await call(app, http_scope("POST", [KEY, (b"accept-encoding", b"identity")]))
    assert again.status == status
    assert world.amounts == [-1]


async def post(app: ASGIApp, body: bytes, *fields: tuple[bytes, bytes], path: str = "/") -> Answer:
    """Send a request with a body."""
    answer = Answer()

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        answer.messages.append(message)

    await app(http_scope("POST", fields, path), receive, send)
    return answer


async def test_the_same_upload_with_another_boundary_is_another_request() -> None:
    """The same bytes are the same one."""
    world = World()
    head = 'content-disposition: form-data; name="file"; filename="a.txt"'

    async def upload(scope: Scope, receive: Receive, send: Send) -> None:
        body = await Request(scope, receive).body()
        await PlainTextResponse(f"{len(body)}")(scope, receive, send)

    app = world.around(upload, rules=KEYED)
    statuses = []
    for boundary in ("one", "two", "one"):
        body = f"--{boundary}\r\n{head}\r\n\r\nhello\r\n--{boundary}--\r\n".encode()
        kind = (b"content-type", f"multipart/form-data; boundary={boundary}".encode())
        statuses.append((await post(app, body, KEY, kind)).status)
    assert statuses == [200, 422, 200]
    assert world.amounts == [-1]


async def test_fastapi_parses_a_body_before_it_is_charged_and_validates_it_afterwards() -> None:
    """Invalid JSON makes no record; a body that is JSON, and not valid, is given back."""
    world = World()
    app = FastAPI()

    @app.post("/")
    async def endpoint(body: dict[str, int], _: Annotated[ChargeContext, Depends(Charge())]) -> int:
        return len(body)

    app.add_middleware(
        FaregateMiddleware, world.gate, lambda _: USER, rules=[Rule(is_deferred=True)]
    )
    kind = (b"content-type", b"application/json")
    assert (await post(app, b"{", kind)).status == 422
    assert world.amounts == []
    assert (await post(app, b'{"a": "one"}', kind)).status == 422
    assert world.amounts == [-1, 1]
    assert (await post(app, b'{"a": 1}', kind)).status == 200
    assert world.amounts == [-1, 1, -1]
