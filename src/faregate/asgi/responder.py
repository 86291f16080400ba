"""One HTTP request behind the gate: watches its response, and gives back what the app fails.

What it promises, beyond the mapping in `problems`:

- A refund is recorded before the response starts: for a status that is refunded, for an exception
  before the start, and for an app that returns without a response, since the client then got
  nothing. A refund that fails is tried again by the gate, and the response goes out.
- A response that has started is paid for: nothing is given back after it, and no header changes.
- A disconnect is no refund, nor is a cancellation. An app learns of a disconnect by `receive`, and
  often raises then; so once it has been told, nothing is given back. But a request whose body never
  arrived whole is: nobody can have been served by it.
- A request with an idempotency key is completed right before the last part of its response goes
  out, so that a client that has it all never hears that its request is in flight. One that failed
  is not completed: where its charge stands, a retry is served for it after the lease.
- A hold is kept open as long as its app runs.
- Bodies pass through chunk by chunk.
"""

import logging
from contextlib import AsyncExitStack
from dataclasses import replace

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from faregate.asgi.fare import Fare
from faregate.asgi.idempotency import Keeping
from faregate.asgi.rules import Rule
from faregate.asgi.toll import Refusal, Taken, Toll, answer_instead
from faregate.domain.errors import ConfigurationError, FaregateError

#: Under this name the app finds its `Fare` in `scope["state"]`.
STATE_NAME = "faregate"

_log = logging.getLogger(__name__)


class RefusedError(HTTPException):
    """Ends an endpoint that asked for its fare and did not get it; the gate answers for it."""

    def __init__(self, outcome: Taken) -> None:
        status = outcome.problem.status if isinstance(outcome, Refusal) else 409
        super().__init__(status_code=status)


class Responder:
    """Runs the app for one request, charged before or by its endpoint."""

    __slots__ = (
        "_awaits_body",
        "_charging",
        "_disconnected",
        "_failed",
        "_fare",
        "_instead",
        "_keeping",
        "_receive",
        "_rule",
        "_scope",
        "_send",
        "_started",
        "_toll",
        "_while_running",
    )

    def __init__(
        self, toll: Toll, rule: Rule, fare: Fare | None, *, channel: tuple[Scope, Receive, Send]
    ) -> None:
        self._toll = toll
        self._rule = rule
        self._fare = fare
        self._scope, self._receive, self._send = channel
        self._started = False
        self._disconnected = False
        #: Whether the client has announced a body that has not arrived whole.
        self._awaits_body = _announces_body(self._scope)
        #: Whether the app failed, or its request never arrived; then no key is completed.
        self._failed = False
        self._charging = fare is not None
        self._while_running = AsyncExitStack()
        self._keeping: Keeping | None = None
        #: What the client is answered in the app's place.
        self._instead: Taken | None = None

    async def run(self, app: ASGIApp) -> None:
        """Run the app; whatever it raises is raised, once what is to be given back is."""
        self._scope.setdefault("state", {})[STATE_NAME] = self._fare or self
        try:
            await self._run(app)
        except RefusedError:
            if self._instead is None:
                raise
        except Exception as error:
            # A cancellation is no Exception, so it passes by and the charge stands.
            name = type(error).__name__
            await self._end("the app failed before it answered", {"exception": name})
            raise
        await self._answer_instead()
        await self._end("the app did not answer", None)

    async def _run(self, app: ASGIApp) -> None:
        async with self._while_running:
            if self._fare is not None:
                await self._keep_open(self._fare)
            await app(self._scope, self.receive, self.send)

    async def _keep_open(self, fare: Fare) -> None:
        await self._while_running.enter_async_context(fare.kept_open(self._rule.hold_ttl_ms))

    async def charge(self, rule: Rule) -> Fare:
        """Charge a request that its endpoint charges, once and before it answers.

        Raises:
            RefusedError: It is refused, or was served before: the client is told so.
            ConfigurationError: It is charged already, or its response has begun.
        """
        if self._instead is not None:
            raise RefusedError(self._instead)
        if self._charging or self._started:
            raise ConfigurationError("an endpoint charges its request once, before it answers")
        self._charging = True
        taken = await self._toll.take(self._scope, rule)
        if not isinstance(taken, Fare):
            self._instead = taken
            raise RefusedError(taken)
        self._rule, self._fare = rule, taken
        self._scope["state"][STATE_NAME] = taken
        await self._keep_open(taken)
        return taken

    async def receive(self) -> Message:
        """Pass on what the client sends."""
        message = await self._receive()
        if message["type"] == "http.request" and not message.get("more_body", False):
            self._awaits_body = False
        if message["type"] == "http.disconnect":
            self._disconnected = True
        return message

    async def send(self, message: Message) -> None:
        """Pass on what the app sends."""
        kind = message["type"]
        if self._instead is not None:
            await self._answer_instead()
        elif self._fare is None:
            self._started = self._started or kind == "http.response.start"
            await self._send(message)
        elif kind == "http.response.start" and not self._started:
            # Set first: whatever fails from here on, this request is settled once.
            self._started = True
            await self._send(await self._with_fields(self._fare, message))
        else:
            if kind in {"http.response.body", "http.response.pathsend"}:
                await self._complete(self._fare, message)
            await self._send(message)

    async def _answer_instead(self) -> None:
        if self._instead is not None and not self._started:
            self._started = True
            await answer_instead(self._instead, self._toll, self._scope, self._send)

    async def _with_fields(self, fare: Fare, message: Message) -> Message:
        status, headers = message["status"], [*message.get("headers", ())]
        if status in self._toll.refund_statuses or self._is_broken:
            self._failed = True
            await self._give_back(f"the app answered {status}", {"status": status})
        elif fare.is_keyed and self._rule.replay_bytes_max:
            self._keeping = Keeping(status, headers, self._rule.replay_bytes_max)
        fields = self._toll.fields(replace(fare.decision, credits=fare.credits))
        return {**message, "headers": [*headers, *fields]}

    async def _complete(self, fare: Fare, message: Message) -> None:
        """Keep a part of the response; with the last one, complete the idempotency key."""
        if not fare.is_keyed or self._failed:
            return
        is_whole = message["type"] == "http.response.body"
        if self._keeping is not None:
            self._keeping.add(message.get("body", b""))
        if message.get("more_body", False):
            return
        response = self._keeping.encoded() if self._keeping is not None and is_whole else b""
        try:
            await fare.complete(response)
        except FaregateError as error:
            _log.warning("a request is not yet noted as served; trying again: %s", error)

    @property
    def _is_broken(self) -> bool:
        """Whether the client went away before its request had arrived whole."""
        return self._disconnected and self._awaits_body

    async def _end(self, why: str, metadata: dict[str, object] | None) -> None:
        """Give back what was not answered; end a hold that the handler has left open."""
        if self._fare is None:
            return
        if not self._started:
            self._failed = True
            await self._give_back(why, metadata)
        try:
            await self._fare.finish()
        except FaregateError as error:
            _log.warning("a hold is not settled now: %s", error)

    async def _give_back(self, why: str, metadata: dict[str, object] | None) -> None:
        """Give everything back, unless nobody is there to get it."""
        if self._fare is None or (self._disconnected and not self._is_broken):
            return
        name = self._fare.decision.transaction_id
        try:
            is_done = await self._fare.give_back(f"refund: {why}", metadata)
        except FaregateError as error:
            # The gate tries again where that can help; the client must not wait for it.
            _log.warning("%s is not given back now: %s", name, error)
            return
        if not is_done:
            _log.warning("%s is not given back whole", name)


def _announces_body(scope: Scope) -> bool:
    """Say whether a request has a body, as RFC 9112 has it announced (section 6)."""
    fields = dict(scope["headers"])
    return b"transfer-encoding" in fields or fields.get(b"content-length", b"0") != b"0"
