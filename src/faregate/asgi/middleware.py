"""Charges each HTTP request before the app sees it, and refunds those that the app fails.

    app = Starlette(middleware=[Middleware(FaregateMiddleware, gate=gate, identify=identify)])

Two objects: the middleware keeps settings, and a responder keeps the state of one request. What
they promise, beyond the mapping in `problems`:

- Charged first. The app runs only after the charge, and finds it as `request.state.faregate`
  (`scope["state"]["faregate"]`, a `Decision`).
- A refund is recorded before the response starts: for a status of `refund_statuses`, for an
  exception before the start, and for an app that returns without a response, since the client then
  got nothing. A refund that fails is tried again by the gate, and the response goes out.
- A response that has started is paid for: nothing is given back after it, and no header changes.
- A disconnect is no refund, nor is a cancellation. An app learns of a disconnect by `receive`, and
  often raises then; so once it has been told, nothing is given back.
- Bodies pass through chunk by chunk. Scopes other than HTTP pass untouched and are not charged.

Where CORSMiddleware is used, put it outside of this one, so that browsers can read refusals, with
`expose_headers=["RateLimit", "RateLimit-Policy", "Retry-After"]`.
"""

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from http import HTTPStatus

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from faregate.asgi.answers import ProblemOptions, answer
from faregate.asgi.headers import Headers, check_names, printable, rate_limit_fields, with_fields
from faregate.asgi.identity import Exempt, Identify, is_cors_preflight, user_of
from faregate.asgi.problems import NO_IDENTITY, UNAVAILABLE, problem_of
from faregate.domain.decision import Decision, Verdict
from faregate.domain.errors import (
    ArchiveUnavailableError,
    ConfigurationError,
    FaregateError,
    LedgerError,
)
from faregate.gate import Gate

#: Under this name the app finds its `Decision` in `scope["state"]`.
STATE_NAME = "faregate"

_OUT_OF_CREDITS_STATUSES = (HTTPStatus.PAYMENT_REQUIRED, HTTPStatus.TOO_MANY_REQUESTS)
#: `REFUND_EXCEEDED` means that nothing of the charge is left: the app has given it back itself.
_GIVEN_BACK = (Verdict.ALLOWED, Verdict.REFUND_EXCEEDED)
_STATUSES = range(100, 600)
_CLASS_SIZE = 100

_log = logging.getLogger(__name__)


def status_set(statuses: Iterable[int | range | str]) -> frozenset[int]:
    """Return the statuses that are meant by numbers, ranges, and texts such as `404` and `5xx`.

    Raises:
        ConfigurationError: One of them is none of these, or lies outside of HTTP.
    """
    if isinstance(statuses, str):
        raise ConfigurationError(f"statuses are a list, such as [{statuses!r}]; this is one text")
    return frozenset(status for item in statuses for status in _statuses_of(item))


def _statuses_of(item: object) -> Iterable[int]:
    if isinstance(item, range):
        found: Iterable[int] = item
    elif isinstance(item, int) and not isinstance(item, bool):
        found = (item,)
    elif isinstance(item, str) and item.isdecimal():
        found = (int(item),)
    elif isinstance(item, str) and item[:1].isdecimal() and item[1:].lower() == "xx":
        first = int(item[0]) * _CLASS_SIZE
        found = range(first, first + _CLASS_SIZE)
    else:
        found = ()
    if not found or not all(status in _STATUSES for status in found):
        raise ConfigurationError(f"a status is a number such as 503 or a class 5xx, not {item!r}")
    return found


class FaregateMiddleware:
    """Puts a gate in front of an ASGI app. One object serves all requests.

    Args:
        app: What runs behind the gate.
        gate: The gate, or a function that returns it, called for each charge: for apps that open
            their gate at startup, in the event loop that serves.
        identify: Says who sent a request, see `identity.Identify`. None there is a 401.
        refund_statuses: For which statuses of the app a charge is given back: numbers, ranges and
            classes such as `5xx`. An empty list leaves the exceptions.
        out_of_credits_status: 402, or 429 for clients that understand nothing else.
        exempt: Which requests pass without identity and charge; by default only the CORS preflight,
            which has neither user nor effect. Other OPTIONS requests and HEAD are charged.
        challenge: The WWW-Authenticate field of a 401, by which clients learn what to send.

    Raises:
        TypeError: The gate, the identity or the exemption is not what it must be.
        ConfigurationError: A status, a text or the name of a policy cannot be used.
    """

    def __init__(
        self,
        app: ASGIApp,
        gate: Gate | Callable[[], Gate],
        identify: Identify,
        *,
        refund_statuses: Iterable[int | range | str] = ("5xx",),
        out_of_credits_status: int = HTTPStatus.PAYMENT_REQUIRED,
        exempt: Exempt = is_cors_preflight,
        challenge: str = "Bearer",
    ) -> None:
        if not callable(identify):
            raise TypeError("an identity is needed: identify(scope) says who is charged")
        if not isinstance(gate, Gate) and not callable(gate):
            raise TypeError(f"gate is a Gate or a function that returns one, not {gate!r}")
        if not callable(exempt):
            raise TypeError(f"exempt is a function of the scope, not {exempt!r}")
        if out_of_credits_status not in _OUT_OF_CREDITS_STATUSES:
            raise ConfigurationError(f"out of credits is 402 or 429, not {out_of_credits_status}")
        self._app = app
        self._gate = gate
        self._identify = identify
        self._exempt = exempt
        self._refund_statuses = status_set(refund_statuses)
        self._options = ProblemOptions(statuses={"out_of_credits": int(out_of_credits_status)})
        if isinstance(gate, Gate):
            check_names(gate.policies)
        field_value = printable(challenge, "the challenge of a 401").encode()
        self._challenge: Headers = [(b"www-authenticate", field_value)]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one scope: charge it, run the app, refund it where the app fails."""
        if scope["type"] != "http" or self._exempt(scope):
            await self._app(scope, receive, send)
            return
        user_id = await user_of(self._identify, scope)
        if user_id is None:
            await answer(NO_IDENTITY, scope, send, fields=self._challenge)
            return
        gate = self._gate if isinstance(self._gate, Gate) else self._gate()
        try:
            decision = await gate.charge(user_id)
        except (LedgerError, ArchiveUnavailableError) as error:
            _log.warning("a request is refused, since its charge cannot be decided: %s", error)
            await answer(UNAVAILABLE, scope, send, fields=[])
            return
        except ConfigurationError as error:
            _log.error("every request is refused until this is put right: %s", error)
            await answer(UNAVAILABLE, scope, send, fields=[])
            return
        if not decision.allowed:
            await self._refuse(gate, decision, scope, send)
            return
        scope.setdefault("state", {})[STATE_NAME] = decision
        responder = _Responder(self, gate, decision, receive, send)
        await responder.run(self._app, scope)

    async def _refuse(self, gate: Gate, decision: Decision, scope: Scope, send: Send) -> None:
        now_ms = gate.now_ms()
        problem, fields = problem_of(decision, now_ms), rate_limit_fields(decision, now_ms)
        await answer(problem, scope, send, fields=fields, options=self._options)

    def refunds(self, status: int) -> bool:
        """Say whether a response of this status is given back."""
        return status in self._refund_statuses


class _Responder:
    """One charged request: watches its response start, and gives the charge back where it fails."""

    __slots__ = ("_charged", "_disconnected", "_gate", "_receive", "_send", "_settings", "_started")

    def __init__(
        self,
        settings: FaregateMiddleware,
        gate: Gate,
        charged: Decision,
        receive: Receive,
        send: Send,
    ) -> None:
        self._settings = settings
        self._gate = gate
        self._charged = charged
        self._receive = receive
        self._send = send
        self._started = False
        self._disconnected = False

    async def run(self, app: ASGIApp, scope: Scope) -> None:
        try:
            await app(scope, self.receive, self.send)
        except Exception as error:
            # A cancellation is no Exception, so it passes by and the charge stands.
            if not self._started:
                name = type(error).__name__
                await self._refund("the app failed before it answered", {"exception": name})
            raise
        if not self._started:
            await self._refund("the app did not answer", None)

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self._disconnected = True
        return message

    async def send(self, message: Message) -> None:
        if self._started or message["type"] != "http.response.start":
            await self._send(message)
            return
        # Set first: whatever fails from here on, this request is settled once.
        self._started = True
        status = message["status"]
        decision = self._charged
        if self._settings.refunds(status):
            left = await self._refund(f"the app answered {status}", {"status": status})
            decision = replace(decision, credits=left)
        fields = rate_limit_fields(decision, self._gate.now_ms())
        headers = with_fields(message.get("headers", ()), fields)
        await self._send({**message, "headers": headers})

    async def _refund(self, why: str, metadata: dict[str, object] | None) -> int:
        """Give the charge back, unless nobody is there to get it; return the credits after it."""
        charged = self._charged
        if self._disconnected or not charged.amount:
            return charged.credits
        try:
            refunded = await self._gate.refund(
                charged, description=f"refund: {why}", metadata=metadata
            )
        except FaregateError as error:
            # The gate tries again where that can help; the client must not wait for it.
            _log.warning("the refund of %s failed for now: %s", charged.transaction_id, error)
            return charged.credits
        if refunded.verdict in _GIVEN_BACK:
            return refunded.credits
        _log.warning("the refund of %s was refused: %s", charged.transaction_id, refunded.verdict)
        return charged.credits
