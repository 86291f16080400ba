"""Puts a gate in front of a WSGI app, by the middleware for ASGI: each rule is written once.

    app.wsgi_app = FaregateWSGI(app.wsgi_app, gate, identify)        # Flask
    application = FaregateWSGI(get_wsgi_application(), gate, identify)    # Django

`asgi` explains rules, refusals, refunds and idempotency keys. WSGI has three limits: a server does
not report disconnects, so a client that disconnects early pays for the response; there are no
WebSockets; and no request is charged by its endpoint (`Rule.is_deferred`).
"""

from collections.abc import Iterable, Sequence
from typing import Any, TypedDict, Unpack

from faregate.asgi.answers import ProblemOptions
from faregate.asgi.charge_context import ChargeContext
from faregate.asgi.identity import Identify
from faregate.asgi.middleware import FaregateMiddleware
from faregate.asgi.responder import STATE_NAME
from faregate.asgi.rules import Rule
from faregate.domain.errors import ConfigurationError
from faregate.sync import SyncGate
from faregate.wsgi.charge import SyncChargeContext
from faregate.wsgi.exchange import Exchange, bridge
from faregate.wsgi.response import Response, StartResponse, WSGIApp, start

#: The name of the `SyncChargeContext` in the environ, with a dot, since names without one are for
#: text.
ENVIRON_NAME = "faregate.charge"


class MiddlewareOptions(TypedDict, total=False):
    """The options of `FaregateMiddleware`, which explains them."""

    rules: Sequence[Rule]
    refund_statuses: Iterable[int | range | str]
    problems: ProblemOptions | None
    challenge: str
    legacy_fields: bool


class FaregateWSGI:
    """Puts a gate in front of a WSGI app. One object serves all requests, in any thread.

    Args:
        app: The app behind the gate.
        gate: The gate, which is built at the first request of each process.
        identify: Says who sent a request, as for ASGI, by its scope. It runs on the event loop of
            the gate. `scope["extensions"]["wsgi.environ"]` is the environ of the request. Its
            `aclose`, if it has one, is called when the gate closes.
        **options: See `FaregateMiddleware`.

    Raises:
        TypeError: The gate or the identity function has the wrong type.
        ConfigurationError: A rule, a status or a text is invalid.
    """

    def __init__(
        self,
        app: WSGIApp,
        gate: SyncGate,
        identify: Identify,
        **options: Unpack[MiddlewareOptions],
    ) -> None:
        if not isinstance(gate, SyncGate):
            raise TypeError(f"gate must be a SyncGate, not {gate!r}")
        if any(rule.is_deferred for rule in options.get("rules", ())):
            raise ConfigurationError(
                "is_deferred is for ASGI: a request of WSGI is charged by a rule"
            )
        if aclose := getattr(identify, "aclose", None):
            gate.close_first(aclose)
        self._app = app
        self._gate = gate
        self._middleware = FaregateMiddleware(bridge, lambda: gate.gate, identify, **options)

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request: charge it, run the app, and refund it if the app fails."""
        exchange = Exchange(self._gate, environ)
        state = exchange.scope["state"]
        around = environ.get(ENVIRON_NAME)
        if isinstance(around, SyncChargeContext):
            # The middleware says that a request is charged once.
            state[STATE_NAME] = around.context
        own = exchange.begin(self._middleware)
        if own is None:
            context = state.get(STATE_NAME)
            if isinstance(context, ChargeContext):
                environ[ENVIRON_NAME] = SyncChargeContext(self._gate, context)
            return Response(exchange, start_response).run(self._app, environ)
        start(own, start_response)
        body: bytes = exchange.next_message().get("body", b"")
        exchange.end()
        return [body]
