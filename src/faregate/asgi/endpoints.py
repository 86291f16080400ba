"""Costs that are declared at endpoints.

Mount the middleware with `rules=[Rule(is_deferred=True)]`. Then an endpoint declares the cost of
its requests; without a declaration they are free. Starlette uses a decorator. FastAPI uses the
decorator, which charges after the validation of the request, or a dependency, which charges before
it:

    @charged(cost=5)
    async def report(request): ...

    @api.get("/report", responses=Charge.responses)
    async def report(charge: Annotated[ChargeContext, Depends(Charge(cost=5))]): ...
"""

import functools
import inspect
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, ClassVar, TypeVar

from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection

from faregate.asgi.charge_context import ChargeContext
from faregate.asgi.deferred import DeferredCharge
from faregate.asgi.responder import STATE_NAME
from faregate.asgi.rules import Cost, Rule
from faregate.domain.errors import ConfigurationError

_PROBLEM = {"application/problem+json": {"schema": {"type": "object"}}}
_DESCRIPTIONS = {
    400: "The Idempotency-Key is missing or malformed, or the request costs too much.",
    401: "The request has no valid credentials.",
    402: "The user does not have enough credits for this request.",
    403: "The user has no credit account.",
    409: "A request with this key is in progress or was served, or its charge was voided.",
    422: "The request is invalid, or its Idempotency-Key belongs to a different request.",
    429: "A limit refuses the request; see Retry-After.",
    503: "The service cannot check credits right now; see Retry-After.",
}
#: The responses of the gate, for OpenAPI.
RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"description": description, "content": dict(_PROBLEM)}
    for status, description in _DESCRIPTIONS.items()
}
# Listed here, since FastAPI would list its own response instead.
RESPONSES[422]["content"]["application/json"] = {"schema": {"type": "object"}}

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])


async def charge_endpoint(connection: HTTPConnection, rule: Rule) -> ChargeContext:
    """Charge the request of an endpoint.

    Raises:
        ChargeRefusedError: The gate answers the client; the endpoint must not go on.
        ConfigurationError: The middleware did not defer this request to its endpoint.
    """
    found = connection.scope.get("state", {}).get(STATE_NAME)
    if isinstance(found, DeferredCharge):
        return await found.charge(rule)
    if connection.scope["type"] == "websocket":
        raise ConfigurationError("a WebSocket connection is charged by a rule, not by its endpoint")
    is_charged = isinstance(found, ChargeContext)
    why = "is charged already" if is_charged else "passed no FaregateMiddleware"
    raise ConfigurationError(
        f"the request of an endpoint with a cost {why}: it is charged once, behind the middleware"
        " with Rule(is_deferred=True)"
    )


class Charge:
    """A FastAPI dependency that charges the request and returns its context."""

    #: For `responses=` of a route or a router.
    responses: ClassVar[dict[int | str, dict[str, Any]]] = RESPONSES

    def __init__(self, cost: Cost | None = None, **rule: Any) -> None:
        """Set the cost of the request; further arguments are those of `Rule`."""
        self.rule = Rule(cost=cost, **rule)

    async def __call__(self, connection: HTTPConnection) -> ChargeContext:
        """Charge the request; see `charge_endpoint`."""
        return await charge_endpoint(connection, self.rule)


def charged(cost: Cost | None = None, **rule: Any) -> Callable[[Endpoint], Endpoint]:
    """Return a decorator that charges the requests of an endpoint of Starlette or FastAPI.

    It decorates functions and methods of an HTTPEndpoint, async or not. In FastAPI they must take
    the request. A request that FastAPI finds invalid is not charged. A schema in the docstring, for
    Starlette's SchemaGenerator, gets the responses of the gate, too.
    """
    own_rule = Rule(cost=cost, **rule)

    def decorate(endpoint: Endpoint) -> Endpoint:
        is_async = inspect.iscoroutinefunction(endpoint)

        @functools.wraps(endpoint)
        async def charge_first(*arguments: Any, **named: Any) -> Any:
            given = (*arguments, *named.values())
            (request,) = (item for item in given if isinstance(item, HTTPConnection))
            await charge_endpoint(request, own_rule)
            if is_async:
                return await endpoint(*arguments, **named)
            return await run_in_threadpool(endpoint, *arguments, **named)

        charge_first.__doc__ = _with_responses(endpoint.__doc__)
        return charge_first  # type: ignore[return-value]

    return decorate


def _with_responses(doc: str | None) -> str | None:
    """Add the responses of the gate to the schema in a docstring."""
    text, separator, schema = (doc or "").rpartition("---")
    if not separator or find_spec("yaml") is None:
        return doc
    import yaml  # type: ignore[import-untyped,unused-ignore]  # noqa: PLC0415 -- only where it is

    described = yaml.safe_load(schema) or {}
    described["responses"] = RESPONSES | described.get("responses", {})
    # Without YAML aliases, so that each response can be read alone.
    dumped = yaml.dump(described, Dumper=_plain_dumper(yaml), sort_keys=False)
    return f"{text}---\n{dumped}"


def _plain_dumper(yaml: Any) -> Any:
    class Plain(yaml.SafeDumper):  # type: ignore[misc,name-defined,unused-ignore]
        def ignore_aliases(self, _data: object) -> bool:
            return True

    return Plain
