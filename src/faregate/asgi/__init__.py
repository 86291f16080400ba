"""The gate in front of an ASGI app: rules, identity, charge, refusals, refunds; and usage."""

from faregate.asgi.answers import ProblemOptions
from faregate.asgi.charge_context import ChargeContext
from faregate.asgi.endpoints import Charge, charge_endpoint, charged
from faregate.asgi.identity import Caller, Identify
from faregate.asgi.lifespans import lifespan_of
from faregate.asgi.middleware import FaregateMiddleware
from faregate.asgi.problems import Problem
from faregate.asgi.rules import CORS_PREFLIGHT, KeyUse, Rule, exempt
from faregate.asgi.usage import usage_app

__all__ = [
    "CORS_PREFLIGHT",
    "Caller",
    "Charge",
    "ChargeContext",
    "FaregateMiddleware",
    "Identify",
    "KeyUse",
    "Problem",
    "ProblemOptions",
    "Rule",
    "charge_endpoint",
    "charged",
    "exempt",
    "lifespan_of",
    "usage_app",
]
