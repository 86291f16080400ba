"""The gate in front of an ASGI app: identity, charge, fields, refusals, refunds; and usage."""

from faregate.asgi.middleware import FaregateMiddleware
from faregate.asgi.usage import usage_app

__all__ = ["FaregateMiddleware", "usage_app"]
