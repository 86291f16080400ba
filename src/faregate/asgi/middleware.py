"""Puts a gate in front of an ASGI app: each request is charged before the app sees it.

    app = Starlette(middleware=[Middleware(FaregateMiddleware, gate=gate, identify=identify)])

    request ─> rules ─> admission ─> gate.charge
                            │
                            └─> responder, or websocket ─> app

`rules` set the cost of a request. `admission` finds its caller and charges it. `responder` and
`websocket` run the app, and give the charge back if the app fails. It needs only ASGI, and no
framework.

docs/mount.md lists the middleware that must stand outside of this one, such as that for CORS.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeAlias

from faregate.asgi.admission import Admission
from faregate.asgi.answers import ProblemOptions
from faregate.asgi.body import RequestBody
from faregate.asgi.charge_context import ChargeContext
from faregate.asgi.deferred import DeferredCharge
from faregate.asgi.headers import check_names, printable
from faregate.asgi.identity import Identify
from faregate.asgi.responder import STATE_NAME, Responder
from faregate.asgi.rules import CORS_PREFLIGHT, KeyUse, Rule, Rules
from faregate.asgi.statuses import status_set
from faregate.asgi.websocket import serve_websocket
from faregate.domain.errors import ConfigurationError, UnknownTierError
from faregate.domain.policy import FailureMode
from faregate.gate import Gate

#: An app of any framework: each types scopes and messages in a way of its own.
AnyASGIApp: TypeAlias = Callable[[Any, Any, Any], Awaitable[None]]

#: The types of scopes that are charged.
_CHARGED = {"http", "websocket"}
_IGNORED = KeyUse.IGNORED


class FaregateMiddleware:
    """Puts a gate in front of an ASGI app. One object serves all requests.

    Args:
        app: The app behind the gate.
        gate: The gate, or a function that returns it, called for each charge. The function is for
            apps that open their gate at startup, in the event loop that serves.
        identify: Returns the caller of a request, see `identity`. None is a 401.
        rules: The costs of requests. The first matching rule applies; without one, the policy sets
            the cost. By default only the CORS preflight is free, which has neither user nor effect.
            Other OPTIONS requests and HEAD are charged unless a rule exempts them.
        refund_statuses: The statuses of the app that are refunded: numbers, ranges and classes such
            as `5xx`. By default every error is refunded. With an empty list only exceptions are.
        problems: How refusals are sent: statuses by code, a link to upgrade.
        challenge: The WWW-Authenticate field of a 401, which tells clients what to send.
        legacy_fields: Whether X-RateLimit fields are sent as well.

    Raises:
        TypeError: The gate or the identity function has the wrong type.
        ConfigurationError: A rule, a status or a text is invalid, or rules would miss paths that
            the app serves.
    """

    def __init__(
        self,
        app: AnyASGIApp,
        gate: Gate | Callable[[], Gate],
        identify: Identify,
        *,
        rules: Sequence[Rule] = (CORS_PREFLIGHT,),
        refund_statuses: Iterable[int | range | str] = ("4xx", "5xx"),
        problems: ProblemOptions | None = None,
        challenge: str = "Bearer",
        legacy_fields: bool = False,
    ) -> None:
        if not callable(identify):
            raise TypeError(
                "give an identity function: `identify(scope)` returns the caller that is charged"
            )
        if not isinstance(gate, Gate) and not callable(gate):
            raise TypeError(f"gate must be a Gate or a function that returns one, not {gate!r}")
        _check_paths(app)
        field_value = printable(challenge, "the challenge of a 401").encode()
        self._app = app
        self._rules = Rules(rules)
        self._admission = Admission(
            gate=_found_by(gate, rules),
            identify=identify,
            refund_statuses=status_set(refund_statuses),
            problems=problems or ProblemOptions(),
            challenge=[(b"www-authenticate", field_value)],
            legacy_fields=legacy_fields,
        )

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one scope: charge it, run the app, and refund it if the app fails."""
        kind = scope["type"]
        if kind not in _CHARGED:
            await self._app(scope, receive, send)
            return
        state = scope.get("state")
        if state and STATE_NAME in state:
            _check_passes_once(state[STATE_NAME])
        rule = self._rules.of(scope)
        if rule.is_exempt:
            await self._app(scope, receive, send)
        elif kind == "http" and not rule.is_deferred:
            body = None if rule.key_use is _IGNORED else RequestBody(scope, receive)
            outcome = await self._admission.admit(scope, rule, body)
            if type(outcome) is ChargeContext:
                receive = receive if body is None else body.rest
                responder = Responder(self._admission, scope, receive, send)
                responder.begin(outcome, rule)
                await responder.run(self._app)
            else:
                await self._admission.answer_instead(outcome, scope, send)
        elif kind == "http":
            await DeferredCharge(self._admission, scope, receive, send).run(self._app)
        elif rule.is_deferred:
            await self._app(scope, receive, send)
        else:
            await serve_websocket(self._app, self._admission, rule, channel=(scope, receive, send))


def _found_by(gate: Gate | Callable[[], Gate], rules: Sequence[Rule]) -> Callable[[], Gate]:
    """Return a function that returns the gate, and checks it the first time."""
    checked: list[Gate] = []
    if isinstance(gate, Gate):
        _check(gate, rules)
        return lambda: gate

    def find() -> Gate:
        found = gate()
        if found not in checked:
            _check(found, rules)
            checked[:] = [found]
        return found

    return find


def _check_paths(app: AnyASGIApp) -> None:
    """Refuse a FastAPI app that strips a prefix from paths after the rules have matched them.

    In other frameworks `root_path` is a folder.
    """
    root_path = getattr(app, "root_path", "") if hasattr(app, "root_path_in_servers") else ""
    if root_path:
        raise ConfigurationError(
            f"the app serves paths with and without {root_path!r}, so rules around it miss some:"
            " mount the gate inside, by app.add_middleware"
        )


def _check_passes_once(found: object) -> None:
    """Refuse a request that an outer FaregateMiddleware charges or defers."""
    if isinstance(found, ChargeContext | DeferredCharge):
        raise ConfigurationError(
            "a request passes FaregateMiddleware twice and would be charged twice: mount it once"
        )


def _check(gate: Gate, rules: Sequence[Rule]) -> None:
    """Check at the start for errors that each request would meet."""
    check_names(gate.policies)
    for rule in rules:
        try:
            gate.policies.of(rule.tier)
        except UnknownTierError as error:
            raise ConfigurationError(f"the rule for {_paths(rule)}: {error}") from error
        if rule.on_failure is FailureMode.OPEN and not gate.serves_open:
            raise ConfigurationError(
                f"the rule for {_paths(rule)} serves open, which needs a journal:"
                " set FAREGATE_JOURNAL_DIR"
            )


def _paths(rule: Rule) -> str:
    return repr(rule.path) if rule.path else "every path"
