"""WebSocket connections: refused before they are accepted, paid for by the message."""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from asgi_client import World
from faregate.asgi import Rule
from faregate.domain.errors import LedgerUnavailableError

CONNECT = {"type": "websocket.connect"}
DENIAL: dict[str, Any] = {"websocket.http.response": {}}


@dataclass
class Talk:
    """One connection, as a server has it."""

    said: list[Message]
    extensions: dict[str, Any] = field(default_factory=dict)
    sent: list[Message] = field(default_factory=list)
    error: Exception | None = None

    async def run(self, app: ASGIApp) -> "Talk":
        incoming = [CONNECT, *self.said, {"type": "websocket.disconnect", "code": 1000}]

        async def receive() -> Message:
            return incoming.pop(0)

        async def send(message: Message) -> None:
            self.sent.append(message)

        scope: Scope = {
            "type": "websocket",
            "path": "/",
            "headers": [],
            "extensions": self.extensions,
        }
        try:
            await app(scope, receive, send)
        except RuntimeError as error:
            self.error = error
        return self


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Accept, and answer each message with the credits that are left."""
    assert await receive() == CONNECT
    await send({"type": "websocket.accept"})
    while (await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": str(scope["state"]["faregate"].credits)})


def text(*texts: str) -> list[Message]:
    return [{"type": "websocket.receive", "text": each} for each in texts]


async def test_a_connection_is_charged_once_and_its_context_shows_it() -> None:
    """However many messages follow, unless they have a cost of their own."""
    world = World(credits=3)
    talk = await Talk(text("a", "b")).run(world.around(echo))
    accept, *answers = talk.sent
    assert (b"ratelimit", b'"credits";r=2') in accept["headers"]
    assert [answer["text"] for answer in answers] == ["2", "2"]
    assert world.amounts == [-1]


async def test_each_message_is_paid_for_before_the_app_gets_it() -> None:
    """The one that cannot be paid for closes the connection, and the app is told so."""
    world = World(credits=3)
    app = world.around(echo, rules=[Rule(message_cost=1)])
    talk = await Talk(text("a", "b", "c", "d")).run(app)
    assert [message.get("text") for message in talk.sent[1:-1]] == ["1", "0"]
    assert talk.sent[-1] == {"type": "websocket.close", "code": 1008, "reason": "out_of_credits"}
    assert world.amounts == [-1, -1, -1]


async def test_after_its_end_nothing_is_charged_or_sent() -> None:
    """An app that does not stop hears the end again, and is not heard."""
    world = World(credits=2)
    heard: list[str] = []

    async def deaf(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        for _ in range(5):
            heard.append((await receive())["type"])
            await send({"type": "websocket.send", "text": "more"})

    app = world.around(deaf, rules=[Rule(message_cost=1)])
    talk = await Talk(text("a", "b", "c", "d")).run(app)
    assert heard == ["websocket.receive"] + 4 * ["websocket.disconnect"]
    assert [message["type"] for message in talk.sent] == [
        "websocket.accept",
        "websocket.send",
        "websocket.close",
    ]
    assert world.amounts == [-1, -1]


async def test_a_connection_that_is_left_to_its_endpoint_passes_uncharged() -> None:
    """As an HTTP request whose endpoint says nothing."""
    world = World(credits=2)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert await receive() == CONNECT
        await send({"type": "websocket.accept"})

    talk = await Talk([]).run(world.around(app, rules=[Rule(is_deferred=True)]))
    assert talk.sent == [{"type": "websocket.accept"}]
    assert world.amounts == []


async def test_a_message_outlives_an_app_that_stops_waiting_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As by a timeout around `receive`, while its charge is decided."""
    world = World(credits=3)
    decide, got = world.ledger.decide, []

    async def never(_: object) -> None:
        await asyncio.Event().wait()

    async def polling(scope: Scope, receive: Receive, send: Send) -> None:
        assert await receive() == CONNECT
        await send({"type": "websocket.accept"})
        monkeypatch.setattr(world.ledger, "decide", never)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(receive(), 0.01)
        monkeypatch.setattr(world.ledger, "decide", decide)
        while (message := await receive())["type"] == "websocket.receive":
            got.append(message["text"])

    talk = await Talk(text("a", "b")).run(world.around(polling, rules=[Rule(message_cost=1)]))
    assert talk.error is None
    assert got == ["a", "b"]
    assert world.amounts == [-1, -1, -1]


async def test_a_message_that_cannot_be_decided_closes_the_connection_for_now() -> None:
    """1013: try again later. It is not charged."""
    world = World(credits=3)
    app = world.around(echo, rules=[Rule(cost=0, message_cost=1)])
    world.ledger.script += [LedgerUnavailableError("away")]

    async def connect_first(scope: Scope, receive: Receive, send: Send) -> None:
        errors, world.ledger.script = world.ledger.script, []

        async def receive_late() -> Message:
            message = await receive()
            if message["type"] == "websocket.receive":
                world.ledger.script = errors
            return message

        await app(scope, receive_late, send)

    talk = await Talk(text("a")).run(connect_first)
    assert talk.sent[-1] == {"type": "websocket.close", "code": 1013, "reason": "unavailable"}
    assert world.amounts == []


@pytest.mark.parametrize("extensions", [{}, DENIAL], ids=["close", "denial"])
async def test_a_user_without_credits_is_refused_before_acceptance(
    extensions: dict[str, Any],
) -> None:
    """By a problem where the server can send one, else by a close that clients see as a 403."""
    world = World(credits=0)
    talk = await Talk([], extensions).run(world.around(echo))
    if extensions:
        start, body = talk.sent
        assert (start["type"], start["status"]) == ("websocket.http.response.start", 402)
        assert json.loads(body["body"])["code"] == "out_of_credits"
    else:
        expected = {"type": "websocket.close", "code": 1008, "reason": "out_of_credits"}
        assert talk.sent == [expected]
    assert world.amounts == []


async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
    assert await receive() == CONNECT
    await send({"type": "websocket.close", "code": 1000})


async def fail(scope: Scope, receive: Receive, send: Send) -> None:
    raise RuntimeError("before it accepts")


async def fail_later(scope: Scope, receive: Receive, send: Send) -> None:
    await echo(scope, receive, send)
    raise RuntimeError("after it has accepted")


@pytest.mark.parametrize(
    ("app", "rule", "changes"),
    [
        (refuse, Rule(), [-1, 1]),
        (fail, Rule(), [-1, 1]),
        (fail_later, Rule(), [-1]),
        (refuse, Rule(estimate=2), [-2, 2]),
        (echo, Rule(estimate=2), [-2]),
    ],
    ids=["refuse", "fail", "fail_later", "refuse-held", "echo-held"],
)
async def test_a_connection_that_is_not_accepted_is_refunded(
    app: ASGIApp, rule: Rule, changes: list[int]
) -> None:
    """And what is accepted is paid for."""
    world = World(credits=3)
    talk = await Talk(text("a")).run(world.around(app, rules=[rule]))
    assert world.amounts == changes
    assert (talk.error is None) == (app in {refuse, echo})


async def test_an_exempt_connection_does_not_identify_its_caller() -> None:
    """The rules are those of requests, with a method of their own."""
    world = World(credits=0)
    app = world.around(
        echo,
        rules=[Rule(methods=["WEBSOCKET"], is_exempt=True)],
        identify=lambda _: pytest.fail("nobody asks"),
    )

    async def silent(scope: Scope, receive: Receive, send: Send) -> None:
        scope.setdefault("state", {})["faregate"] = None
        await app(scope, receive, send)

    talk = await Talk([]).run(silent)
    assert talk.sent[0] == {"type": "websocket.accept"}
