"""Ready-made identity functions: they return the caller of a request.

JSON Web Tokens are in `identity.jwt`, since they need `pip install 'faregate[jwt]'`.
"""

from faregate.asgi.identity.addresses import anonymous, client_address, networks
from faregate.asgi.identity.api_keys import ApiKeyIdentity
from faregate.asgi.identity.caller import (
    Caller,
    Exempt,
    Identify,
    caller_of,
    first_of,
    is_cors_preflight,
)
from faregate.asgi.identity.starlette_users import session_identity, user_identity

__all__ = [
    "ApiKeyIdentity",
    "Caller",
    "Exempt",
    "Identify",
    "anonymous",
    "caller_of",
    "client_address",
    "first_of",
    "is_cors_preflight",
    "networks",
    "session_identity",
    "user_identity",
]
