"""The gate in front of an ASGI app: identity, charge, fields, refusals and refunds."""

from faregate.asgi.middleware import FaregateMiddleware

__all__ = ["FaregateMiddleware"]
