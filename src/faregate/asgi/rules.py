"""Rules set the cost of requests. They are compiled once; the first that matches applies."""

import re
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from inspect import isawaitable
from typing import TypeAlias
from urllib.parse import unquote, urlsplit

from starlette.routing import compile_path
from starlette.types import Message, Scope

from faregate.asgi.identity import Exempt, is_cors_preflight
from faregate.domain.durability import Durability
from faregate.domain.errors import ConfigurationError, InvalidArgumentError
from faregate.domain.idempotency import RESPONSE_BYTES_MAX
from faregate.domain.policy import FailureMode
from faregate.domain.spend import check_ttl
from faregate.domain.transaction import check_whole

#: The cost of a request, in credits: fixed, or computed from its scope by a function, async or not.
#: The function must not read the body, which belongs to the app. If the cost depends on the body,
#: use an estimate, and let the app settle it.
Cost: TypeAlias = int | Callable[[Scope], int | Awaitable[int]]

#: In `Rule.methods`: WebSocket connections, which have no method.
WEBSOCKET = "WEBSOCKET"

_HOLD_TTL_MS = 60_000
#: The statuses by which frameworks redirect to the path with or without a last slash.
_REDIRECTS = frozenset((301, 302, 307, 308))
#: Any method that no rule names. No method is empty.
_ANY = ""


class KeyUse(StrEnum):
    """How the gate uses an Idempotency-Key."""

    #: The header is ignored: the key belongs to the app. A request that is sent twice is
    #: charged twice.
    IGNORED = "ignored"
    #: A request with a key is charged and served once.
    OPTIONAL = "optional"
    #: The same, and a request without a key is refused.
    REQUIRED = "required"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """The cost and treatment of requests with some paths and methods."""

    #: A path as in Starlette's routes, such as `/reports/{id:int}` or `/files/{rest:path}`, below
    #: the mount point of the app; empty for every path. `/reports` also matches `/reports/`, unless
    #: another rule has that path, and the other way round.
    path: str = ""
    #: The methods; empty for all. GET includes HEAD, as in Starlette.
    methods: Sequence[str] = ()
    #: A further condition on the request.
    when: Exempt | None = None
    #: The request passes without identity and without charge.
    is_exempt: bool = False
    #: The endpoint charges the request; see `endpoints`.
    is_deferred: bool = False
    #: The cost; None for that of the policy. 0 is a peek: decided, but not charged.
    cost: Cost | None = None
    #: The estimate to hold, if the cost is known only afterwards. The app settles it by
    #: `request.state.faregate.settle`; if it does not, the request costs the estimate.
    estimate: Cost | None = None
    #: The lifetime of the hold, in milliseconds.
    hold_ttl_ms: int = _HOLD_TTL_MS
    #: The cost of each message from the client of a WebSocket, in credits.
    message_cost: int = 0
    #: The tier whose policy applies; None for that of the caller.
    tier: str | None = None
    #: The treatment of a request that cannot be decided in time.
    on_failure: FailureMode = FailureMode.CLOSED
    #: How safe the charge is before the app runs; None for the durability of the policy.
    durability: Durability | None = None
    #: Whether an `Idempotency-Key` of the request is ignored, honoured or required.
    key_use: KeyUse = KeyUse.IGNORED
    #: The largest response that is saved for retries with the same key, in bytes. 0 saves none: a
    #: retry then learns only that the request was served.
    replay_bytes_max: int = 0
    #: Whether the rule needs more than a charge of a fixed cost.
    needs_more: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.path and not self.path.startswith("/"):
            raise ConfigurationError(f"the path of a rule begins with a slash, not {self.path!r}")
        if isinstance(self.methods, str):
            raise ConfigurationError(f"methods must be a list, such as [{self.methods!r}]")
        if self.cost is not None and self.estimate is not None:
            raise ConfigurationError("a rule has a cost, or an estimate, which is settled later")
        for what, value in (("cost", self.cost), ("estimate", self.estimate)):
            if not callable(value) and value is not None:
                check_whole(f"the {what} of a rule", value, 1 if what == "estimate" else 0)
        check_whole("the message_cost of a rule", self.message_cost, 0)
        check_ttl(self.hold_ttl_ms)
        if not 0 <= self.replay_bytes_max <= RESPONSE_BYTES_MAX:
            raise ConfigurationError(
                f"replay_bytes_max must lie between 0 and {RESPONSE_BYTES_MAX}"
            )
        needs_more = (
            self.estimate is not None or callable(self.cost) or self.key_use is KeyUse.REQUIRED
        )
        object.__setattr__(self, "needs_more", needs_more)


#: The CORS preflight of a browser, which carries no credentials.
CORS_PREFLIGHT = Rule(methods=("OPTIONS",), when=is_cors_preflight, is_exempt=True)


def exempt(*paths: str) -> list[Rule]:
    """Return rules that make paths free, such as those of health checks and metrics."""
    return [Rule(path=path, is_exempt=True) for path in paths]


async def cost_of(cost: Cost, scope: Scope) -> int:
    """Return the cost of a request, in credits.

    Raises:
        InvalidArgumentError: The computed cost is negative or no whole number.
        AmountError: It is larger than any balance.
    """
    found: object = cost(scope) if callable(cost) else cost
    if isawaitable(found):
        found = await found
    if isinstance(found, bool) or not isinstance(found, int) or found < 0:
        raise InvalidArgumentError(f"a rule computes a whole number of credits, not {found!r}")
    return check_whole("a cost", found, 0)


class Rules:
    """Compiled rules. A request that no rule matches is charged by the policy."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        paths = {rule.path for rule in rules}
        compiled = [(rule, _methods(rule), _path_match(rule.path, paths)) for rule in rules]
        methods = {method for rule in rules for method in _methods(rule)} | {_ANY}
        #: The rules by method; `_ANY` is any method that no rule names.
        self._of_method = {
            method: [(rule, match) for rule, own, match in compiled if not own or method in own]
            for method in methods
        }
        # The type of the scope decides; an HTTP method of that name is no connection.
        self._of_connections = self._of_method.pop(WEBSOCKET, self._of_method[_ANY])
        self._otherwise = Rule()

    def of(self, scope: Scope) -> Rule:
        """Return the first rule that matches a request or a WebSocket connection."""
        if scope["type"] == "websocket":
            steps = self._of_connections
        else:
            # Some frameworks serve `get` as GET.
            steps = self._of_method.get(scope["method"].upper()) or self._of_method[_ANY]
        if steps:
            path = route_path(scope)
            for rule, match in steps:
                if match is None or match(path):
                    when = rule.when
                    if when is None or when(scope):
                        return rule
        return self._otherwise


def _path_match(path: str, others: Collection[str]) -> Callable[[str], object] | None:
    """Compile the path of a rule; None matches every path.

    Paths are matched as Starlette matches its routes. So no spelling of a path, such as one with a
    line feed at its end, reaches an endpoint without matching its rule. Most frameworks redirect a
    path with or without a last slash to the other form, and some serve both. So both are one path
    here, unless `others` has the other form.
    """
    if not path:
        return None
    bare = path.rstrip("/")
    pattern = compile_path(path)[0].pattern
    if bare and not {bare, f"{bare}/"} <= {*others, path}:
        pattern = f"{compile_path(bare)[0].pattern.removesuffix('$')}/?$"
    return re.compile(pattern, re.DOTALL).match


def _methods(rule: Rule) -> frozenset[str]:
    methods = frozenset(method.upper() for method in rule.methods)
    return methods | {"HEAD"} if "GET" in methods else methods


def is_slash_redirect(scope: Scope, response: Message) -> bool:
    """Return whether a response redirects to the same path with or without its last slash."""
    if response["status"] not in _REDIRECTS:
        return False
    targets = [value for name, value in response.get("headers", ()) if name.lower() == b"location"]
    path = unquote(urlsplit(targets[0].decode("latin-1")).path) if targets else ""
    own: str = scope["path"]
    return path != own and path.rstrip("/") == own.rstrip("/") != ""


def route_path(scope: Scope) -> str:
    """Return the path below the mount point, which the path of a scope includes (ASGI 2.4)."""
    path, root = scope["path"], scope.get("root_path", "")
    if root and path.startswith(root) and path[len(root) :][:1] in {"", "/"}:
        return path[len(root) :] or "/"
    return str(path)
