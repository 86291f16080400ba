"""The gate in front of a WSGI app, such as Flask or Django: `FaregateWSGI`."""

from faregate.wsgi.charge import SyncChargeContext
from faregate.wsgi.middleware import FaregateWSGI, MiddlewareOptions

__all__ = ["FaregateWSGI", "MiddlewareOptions", "SyncChargeContext"]
