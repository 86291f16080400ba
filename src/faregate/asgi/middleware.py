"""Puts a gate in front of an ASGI app: each request is charged before the app sees it.

    app = Starlette(middleware=[Middleware(FaregateMiddleware, gate=gate, identify=identify)])

A request meets, in this order: `rules`, which say what it costs; `toll`, which asks who it is and
charges it; and `responder` or `websocket`, which run the app and give back what it fails. Nothing
of a framework is assumed but ASGI itself.

Where CORSMiddleware is used, put it outside of this one, so that browsers can read refusals, with
`expose_headers=["RateLimit", "RateLimit-Policy", "Retry-After"]`.
"""

from collections.abc import Callable, Iterable, Sequence

from starlette.types import ASGIApp, Receive, Scope, Send

from faregate.asgi.answers import ProblemOptions
from faregate.asgi.fare import Fare
from faregate.asgi.headers import check_names, printable
from faregate.asgi.identity import Identify
from faregate.asgi.responder import Responder
from faregate.asgi.rules import CORS_PREFLIGHT, Rule, Rules
from faregate.asgi.statuses import status_set
from faregate.asgi.toll import Toll, answer_instead
from faregate.asgi.websocket import serve_websocket
from faregate.domain.errors import ConfigurationError
from faregate.domain.policy import FailureMode
from faregate.gate import Gate


class FaregateMiddleware:
    """Puts a gate in front of an ASGI app. One object serves all requests.

    Args:
        app: What runs behind the gate.
        gate: The gate, or a function that returns it, called for each charge: for apps that open
            their gate at startup, in the event loop that serves.
        identify: Says who sent a request, see `identity`. None there is a 401.
        rules: What requests cost; the first that matches holds, and what none matches is charged
            by the policy. By default only the CORS preflight is free, which has neither user nor
            effect. Other OPTIONS requests and HEAD are charged unless a rule exempts them.
        refund_statuses: For which statuses of the app a charge is given back: numbers, ranges and
            classes such as `5xx`. An empty list leaves the exceptions.
        problems: How refusals are told: statuses by code, a link to upgrade.
        challenge: The WWW-Authenticate field of a 401, by which clients learn what to send.
        legacy_fields: Whether X-RateLimit fields are sent, too.

    Raises:
        TypeError: The gate or the identity is not what it must be.
        ConfigurationError: A rule, a status or a text cannot be used.
    """

    def __init__(
        self,
        app: ASGIApp,
        gate: Gate | Callable[[], Gate],
        identify: Identify,
        *,
        rules: Sequence[Rule] = (CORS_PREFLIGHT,),
        refund_statuses: Iterable[int | range | str] = ("5xx",),
        problems: ProblemOptions | None = None,
        challenge: str = "Bearer",
        legacy_fields: bool = False,
    ) -> None:
        if not callable(identify):
            raise TypeError("an identity is needed: identify(scope) says who is charged")
        if not isinstance(gate, Gate) and not callable(gate):
            raise TypeError(f"gate is a Gate or a function that returns one, not {gate!r}")
        find = _LateGate(gate, rules)
        if isinstance(gate, Gate):
            find()
        field_value = printable(challenge, "the challenge of a 401").encode()
        self._app = app
        self._rules = Rules(rules)
        self._toll = Toll(
            gate=find,
            identify=identify,
            refund_statuses=status_set(refund_statuses),
            problems=problems or ProblemOptions(),
            challenge=[(b"www-authenticate", field_value)],
            legacy_fields=legacy_fields,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one scope: charge it, run the app, refund it where the app fails."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        rule = self._rules.of(scope)
        channel = (scope, receive, send)
        if rule.is_exempt or (rule.is_deferred and scope["type"] == "websocket"):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await serve_websocket(self._app, self._toll, rule, channel=channel)
        elif rule.is_deferred:
            await Responder(self._toll, rule, None, channel=channel).run(self._app)
        else:
            taken = await self._toll.take(scope, rule)
            if isinstance(taken, Fare):
                await Responder(self._toll, rule, taken, channel=channel).run(self._app)
            else:
                await answer_instead(taken, self._toll, scope, send)


class _LateGate:
    """The gate, which an app may open as late as at its start; checked when it is first found."""

    def __init__(self, gate: Gate | Callable[[], Gate], rules: Sequence[Rule]) -> None:
        self._gate = gate
        self._rules = rules
        self._checked: Gate | None = None

    def __call__(self) -> Gate:
        gate = self._gate if isinstance(self._gate, Gate) else self._gate()
        if gate is not self._checked:
            _check(gate, self._rules)
            self._checked = gate
        return gate


def _check(gate: Gate, rules: Sequence[Rule]) -> None:
    """Find at the start what would go wrong with each request."""
    check_names(gate.policies)
    for rule in rules:
        if rule.tier is not None:
            gate.policies.of(rule.tier)
        if rule.on_failure is FailureMode.OPEN and not gate.serves_open:
            raise ConfigurationError(
                f"the rule for {rule.path or 'every path'!r} serves open, which needs a journal:"
                " set FAREGATE_JOURNAL_DIR"
            )
