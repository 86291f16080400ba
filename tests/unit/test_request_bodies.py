"""The body of a request with an idempotency key: read ahead, told apart, and passed on."""

import asyncio
from typing import Annotated

import pytest
from fastapi import Depends, FastAPI
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from asgi_client import USER, Answer, World, answers, http_scope
from faregate.asgi import Charge, ChargeContext, FaregateMiddleware, KeyUse, Rule
from faregate.asgi.body import BODY_BYTES_MAX, ClientDisconnectedError, RequestBody
from waiting import WAIT_S_MAX

KEYED = [Rule(key_use=KeyUse.OPTIONAL, replay_bytes_max=1_000)]
KEY = (b"idempotency-key", b'"one"')
JSON = (b"content-type", b"application/json")


def part(body: bytes, *, more: bool = False) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


def announced(length: int) -> tuple[bytes, bytes]:
    return b"content-length", b"%d" % length


class Client:
    """Sends messages one by one; after them nothing comes until it leaves."""

    def __init__(self, *messages: Message, leaves: bool = False) -> None:
        self.messages = list(messages)
        self.asked = 0
        self._leaves = leaves

    async def receive(self) -> Message:
        self.asked += 1
        if self.messages:
            return self.messages.pop(0)
        if not self._leaves:
            await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    async def call(self, app: ASGIApp, *fields: tuple[bytes, bytes], path: str = "/") -> Answer:
        answer = Answer()

        async def send(message: Message) -> None:
            answer.messages.append(message)

        async with asyncio.timeout(WAIT_S_MAX):
            await app(http_scope("POST", fields, path), self.receive, send)
        return answer


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with what was sent."""
    body = await Request(scope, receive).body()
    await PlainTextResponse(body)(scope, receive, send)


async def fingerprint(*messages: Message, fields: tuple[tuple[bytes, bytes], ...] = ()) -> str:
    return await RequestBody(http_scope("POST", fields), Client(*messages).receive).fingerprint()


async def test_the_same_key_with_another_body_is_another_request() -> None:
    """Even of the same length; it is neither served nor answered by the first response."""
    world = World()
    app = world.around(echo, rules=KEYED)
    first = await Client(part(b"amount=10")).call(app, KEY)
    other = await Client(part(b"amount=20")).call(app, KEY)
    again = await Client(part(b"amou", more=True), part(b"nt=10")).call(app, KEY)
    assert (first.status, other.status, again.status) == (200, 422, 200)
    assert again.body == b"amount=10"
    assert again.header(b"idempotent-replayed") == b"true"
    assert world.amounts == [-1]


async def test_a_body_is_the_same_however_it_is_cut() -> None:
    """Nor does it matter whether its length or digest was told: it is known by itself."""
    whole = await fingerprint(part(b"abc"), fields=(announced(3), (b"content-digest", b"x")))
    cut = await fingerprint(part(b"a", more=True), part(b"", more=True), part(b"bc"))
    assert whole == cut
    others = [
        await fingerprint(part(b"abd")),
        await fingerprint(part(b"")),
        await fingerprint(part(b"abc"), fields=(JSON,)),
    ]
    assert len({whole, *others}) == 4


async def test_the_fingerprint_of_a_long_body_covers_its_beginning_and_its_fields() -> None:
    """No more is read, and however it comes, no more than the bound tells it apart."""
    start = b"x" * (BODY_BYTES_MAX - 1)
    client = Client(part(start, more=True), part(b"yz", more=True), part(b"rest"))
    body = RequestBody(http_scope("POST"), client.receive)
    long = await body.fingerprint()
    assert client.asked == 2
    assert (await body.rest())["body"] == start + b"yz"
    assert (await body.rest())["body"] == b"rest"
    assert await fingerprint(part(start + b"yA", more=True)) == long
    others = [
        await fingerprint(part(start + b"y")),
        await fingerprint(part(start + b"Az", more=True)),
        await fingerprint(part(start + b"yz"), fields=((b"content-digest", b"x"),)),
    ]
    assert len({long, *others}) == 4


async def test_a_body_that_is_announced_to_be_too_long_is_not_asked_for() -> None:
    """So a client that expects a 100 keeps it until it is charged; its length and digest count."""
    too_long = announced(BODY_BYTES_MAX + 1)
    client = Client()
    body = RequestBody(http_scope("POST", [too_long]), client.receive)
    told = await body.fingerprint()
    assert client.asked == 0
    assert body.rest == client.receive
    assert await fingerprint(fields=(announced(BODY_BYTES_MAX + 2),)) != told
    assert await fingerprint(fields=(too_long, (b"content-digest", b"x"))) != told


async def test_the_app_gets_the_whole_body_and_then_what_follows() -> None:
    """What was read ahead comes first, in one piece; the client leaves after that, as always."""
    client = Client(part(b"a", more=True), part(b"b"), leaves=True)
    body = RequestBody(http_scope("POST"), client.receive)
    await body.fingerprint()
    assert await body.rest() == part(b"ab")
    assert await body.rest() == {"type": "http.disconnect"}


@pytest.mark.parametrize("sent", [(), (part(b"a", more=True),)], ids=["nothing", "a part"])
async def test_a_client_that_leaves_within_its_body_is_not_charged(sent: tuple[Message]) -> None:
    """The app does not run, and the key is free for the retry."""
    world = World()
    app = world.around(echo, rules=KEYED)
    assert (await Client(*sent, leaves=True).call(app, KEY)).messages == []
    assert world.amounts == []
    assert (await Client(part(b"ab")).call(app, KEY)).body == b"ab"
    assert world.amounts == [-1]


async def test_without_a_key_nothing_is_read_ahead() -> None:
    """The app receives from the server itself, as it always does."""
    world = World()
    client = Client(part(b"ab"))
    await client.call(world.around(answers(200), rules=KEYED))
    assert client.asked == 0


async def test_a_request_without_a_user_is_refused_before_its_body_is_read() -> None:
    """A body is read of users alone."""
    client = Client(part(b"ab"))
    app = World().around(echo, rules=KEYED, identify=lambda _: None)
    assert (await client.call(app, KEY)).status == 401
    assert client.asked == 0


async def test_an_endpoint_that_charges_late_compares_the_body_that_was_read() -> None:
    """FastAPI has parsed the body before a dependency runs; a body that is never read is, too."""
    world = World()
    app = FastAPI()
    keyed = Charge(key_use=KeyUse.REQUIRED, replay_bytes_max=1_000)

    @app.post("/read")
    async def read(
        charge: Annotated[ChargeContext, Depends(keyed)], body: dict[str, int]
    ) -> dict[str, int]:
        return body | {"left": charge.credits}

    @app.post("/unread")
    async def unread(request: Request, charge: Annotated[ChargeContext, Depends(keyed)]) -> str:
        return f"{await request.body()!r} {charge.credits}"

    app.add_middleware(
        FaregateMiddleware,
        gate=world.gate,
        identify=lambda _: USER,
        rules=[Rule(is_deferred=True)],
    )
    for path, key in (("/read", b"a"), ("/unread", b"b")):
        fields = [JSON, (b"idempotency-key", key)]
        first = await Client(part(b'{"a":', more=True), part(b"1}")).call(app, *fields, path=path)
        other = await Client(part(b'{"a":2}')).call(app, *fields, path=path)
        again = await Client(part(b'{"a":1}')).call(app, *fields, path=path)
        assert (first.status, other.status, again.status) == (200, 422, 200)
        assert again.body == first.body
    assert world.amounts == [-1, -1]


async def test_a_body_cannot_be_whole_after_a_disconnect() -> None:
    """Whatever is asked of it later."""
    body = RequestBody(http_scope("POST"), Client(part(b"a", more=True), leaves=True).receive)
    for _ in range(2):
        with pytest.raises(ClientDisconnectedError):
            await body.fingerprint()
