"""One WebSocket connection behind the gate: charged when it connects, and for each message.

It is refused before it is accepted: with a problem where the server can send one (the extension
`websocket.http.response`), else by a close, which clients see as a 403. What the app refuses before
it accepts is given back; an accepted connection is paid for. A message that cannot be paid for
closes the connection with 1008 (policy violation, RFC 6455), and the code of the problem as reason.
"""

import logging

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from faregate.asgi.fare import Fare
from faregate.asgi.responder import STATE_NAME
from faregate.asgi.rules import Rule
from faregate.asgi.toll import Refusal, Taken, Toll, answer_instead
from faregate.domain.errors import FaregateError

_POLICY_VIOLATION = 1008
_TRY_AGAIN_LATER = 1013

_log = logging.getLogger(__name__)


async def serve_websocket(
    app: ASGIApp, toll: Toll, rule: Rule, *, channel: tuple[Scope, Receive, Send]
) -> None:
    """Charge a connection and run the app for it, or refuse it."""
    scope, receive, send = channel
    connect = await receive()
    taken = await toll.take(scope, rule)
    if not isinstance(taken, Fare):
        await _refuse(taken, toll, scope, send)
        return
    scope.setdefault("state", {})[STATE_NAME] = taken
    await _Connection(toll, rule, taken, connect, (receive, send)).run(app, scope)


async def _refuse(taken: Taken, toll: Toll, scope: Scope, send: Send) -> None:
    if "websocket.http.response" not in scope.get("extensions", {}):
        reason = taken.problem.code if isinstance(taken, Refusal) else ""
        await send({"type": "websocket.close", "code": _POLICY_VIOLATION, "reason": reason})
        return
    await answer_instead(taken, toll, scope, send)


class _Connection:
    """An admitted connection."""

    def __init__(
        self, toll: Toll, rule: Rule, fare: Fare, connect: Message, channel: tuple[Receive, Send]
    ) -> None:
        self._toll = toll
        self._rule = rule
        self._fare = fare
        self._connect: Message | None = connect
        self._receive, self._send = channel
        self._accepted = False
        #: How the app was told that a message could not be paid for; then it hears nothing more.
        self._ended: Message | None = None

    async def run(self, app: ASGIApp, scope: Scope) -> None:
        try:
            async with self._fare.kept_open(self._rule.hold_ttl_ms):
                await app(scope, self.receive, self.send)
        finally:
            await self._end()

    async def _end(self) -> None:
        try:
            if not self._accepted:
                await self._fare.give_back("refund: the connection was not accepted")
        except FaregateError as error:
            _log.warning("the fare of a connection is not given back now: %s", error)
        try:
            await self._fare.finish()
        except FaregateError as error:
            _log.warning("the hold of a connection is not settled now: %s", error)

    async def receive(self) -> Message:
        if self._connect is not None:
            connect, self._connect = self._connect, None
            return connect
        if self._ended is not None:
            return self._ended
        message = await self._receive()
        if message["type"] != "websocket.receive" or not self._rule.message_cost:
            return message
        refused_with = await self._pay_for_message()
        if refused_with is None:
            return message
        code, reason = refused_with
        await self._send({"type": "websocket.close", "code": code, "reason": reason})
        self._ended = {"type": "websocket.disconnect", "code": code, "reason": reason}
        return self._ended

    async def _pay_for_message(self) -> tuple[int, str] | None:
        """Charge a message; return code and reason of the close if it cannot be paid for."""
        try:
            decision = await self._fare.add(self._rule.message_cost, description="message")
        except FaregateError as error:
            _log.warning("a connection is closed, since a charge cannot be decided: %s", error)
            return _TRY_AGAIN_LATER, "unavailable"
        return None if decision.allowed else (_POLICY_VIOLATION, str(decision.verdict))

    async def send(self, message: Message) -> None:
        if self._ended is not None:
            return
        if message["type"] == "websocket.accept":
            self._accepted = True
            fields = self._toll.fields(self._fare.decision)
            message = {**message, "headers": [*message.get("headers", ()), *fields]}
        await self._send(message)
