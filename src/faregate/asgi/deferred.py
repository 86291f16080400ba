"""Requests that endpoints charge: the middleware admits them without a charge."""

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from faregate.asgi.admission import Admission, Outcome, Refusal
from faregate.asgi.body import RequestBody
from faregate.asgi.charge_context import ChargeContext
from faregate.asgi.idempotency import KEY_FIELD
from faregate.asgi.refunds import give_back
from faregate.asgi.responder import STATE_NAME, Responder
from faregate.asgi.rules import Rule
from faregate.domain.errors import ConfigurationError


class ChargeRefusedError(HTTPException):
    """Ends an endpoint whose request is refused; the middleware sends the response."""

    def __init__(self, outcome: Outcome) -> None:
        status = outcome.problem.status if isinstance(outcome, Refusal) else 409
        super().__init__(status_code=status)


class DeferredCharge:
    """A request without a charge yet. It is `request.state.faregate` until `charge` is called."""

    def __init__(self, admission: Admission, scope: Scope, receive: Receive, send: Send) -> None:
        self._admission = admission
        self._scope = scope
        self._send = send
        #: The body, which the app may have read before the charge; None without a key.
        self._body: RequestBody | None = None
        if any(name == KEY_FIELD for name, _ in scope["headers"]):
            self._body = RequestBody(scope, receive)
            receive = self._body.receive
        self._responder = Responder(admission, scope, receive, send)
        self._is_charging = False
        self._is_over = False
        #: The response that the client gets instead of the app's.
        self._instead: Outcome | None = None

    async def run(self, app: ASGIApp) -> None:
        """Run the app."""
        self._scope.setdefault("state", {})[STATE_NAME] = self

        async def watched(scope: Scope, receive: Receive, _send: Send) -> None:
            await app(scope, receive, self.send)

        try:
            await self._responder.run(watched)
        except ChargeRefusedError:
            if self._instead is None:
                raise
        finally:
            self._is_over = True
        await self._answer_instead()

    async def charge(self, rule: Rule) -> ChargeContext:
        """Charge the request, once and before its response.

        Raises:
            ChargeRefusedError: It is refused, or was served before; the client gets that response.
            ConfigurationError: It is already charged, or its response has begun.
        """
        if self._instead is not None:
            raise ChargeRefusedError(self._instead)
        if self._is_charging or self._responder.has_started:
            raise ConfigurationError("charge the request only once, and before the response starts")
        self._is_charging = True
        outcome = await self._admission.admit(self._scope, rule, self._body)
        if not isinstance(outcome, ChargeContext):
            self._instead = outcome
            raise ChargeRefusedError(outcome)
        if self._is_over or self._responder.has_started:
            # The app has charged in a task of its own, and has not waited for it.
            await give_back(outcome, "the request ended first", None, self._admission.log)
            raise ConfigurationError("an endpoint waits for its charge before it answers")
        self._responder.begin(outcome, rule)
        return outcome

    async def send(self, message: Message) -> None:
        """Pass on the messages of the app, unless another response replaces them."""
        if self._instead is None:
            await self._responder.send(message)
        else:
            await self._answer_instead()

    async def _answer_instead(self) -> None:
        if self._instead is not None and not self._responder.has_started:
            self._responder.has_started = True
            await self._admission.answer_instead(self._instead, self._scope, self._send)
